"""How like the register neurons the random ones are that are moved in their place."""

from typing import Any

import numpy as np

from vit_registers.core.stats import percentiles
from vit_registers.experiments.job import Job
from vit_registers.experiments.test_time_registers.params import Config

METRICS = {"activation": "drawn_activation", "output_norm": "drawn_output_norm"}


def run(cfg: Config, job: Job) -> None:
    """Fill the rows of every condition that moves random neurons, from what extraction recorded of it."""
    for condition, cached in job.conditions(cfg.dataset, cfg.model, cfg.conditions):
        if cached.status != "complete":
            continue
        for name, ratios in _likeness(cached.index["intervention"]).items():
            low, high = percentiles(np.asarray(ratios), cfg.statistics.confidence)
            given: dict[str, Any] = {"low": low, "high": high} if len(ratios) > 1 else {"note": "one set was drawn"}
            job.rows.add(METRICS[name], float(np.mean(ratios)), len(ratios), intervention=condition, **given)


def _likeness(described: Any) -> dict[str, list[float]]:
    """Ratios by quantity of an intervention as extraction describes it; nothing where it draws no neurons."""
    parts = described if isinstance(described, list) else [described or {}]
    return next((part["likeness"] for part in parts if "likeness" in part), {})
