"""Do the effects of replacing registers one by one add up to that of replacing all (parodi2026)?

Of every number that other measures left by image, or in every resample of the images: the sum of the changes under the
single conditions, the change under the joint one, and their difference. All are of the same images, so that the
interval of the difference is paired.
"""

from typing import Any

import numpy as np

from vit_registers.core.inference import Sample, error, wald
from vit_registers.core.stats import percentiles
from vit_registers.experiments.job import Job
from vit_registers.experiments.outcomes import Measured, Outcome, Outcomes
from vit_registers.experiments.token_ablation.params import Config, Joint
from vit_registers.params.condition import BASELINE, Condition

CHANGES = ["sum_of_changes", "joint_change", "additivity_gap"]


def run(cfg: Config, job: Job) -> None:
    """Fill the rows of every joint ablation and everything that was measured of it and of all its parts."""
    ((_, cached),) = job.conditions(cfg.dataset, cfg.model, [BASELINE])
    outcomes = Outcomes(cfg, cfg.dataset, cfg.sources, {cfg.model}, job.measures)

    def of(condition: str) -> dict[Measured, Outcome]:
        return outcomes.of(Condition(model=cfg.model, intervention=condition))

    for joint in cfg.joints:
        missing = sorted(set(range(cached.layout.registers)) - set(joint.single))
        if missing:
            reason = f"register {missing[0]} was not replaced by itself"
            job.rows.absent(CHANGES, reason, intervention=joint.condition)
            continue
        before, together, single = of(BASELINE), of(joint.condition), [of(name) for name in joint.single.values()]
        for measured in together:
            if all(measured in found for found in (before, *single)):
                parts = [found[measured].sample for found in single]
                _rows(cfg, job, joint, measured, before[measured], together[measured].sample, parts)


def _rows(
    cfg: Config, job: Job, joint: Joint, measured: Measured, before: Outcome, whole: Sample, single: list[Sample]
) -> None:
    """Changes of one number, from ``before``, in all images and in every resample."""
    start = before.sample
    value = sum(each.value - start.value for each in single)
    resampled = np.sum([each.resampled - start.resampled for each in single], axis=0)
    together = whole.value - start.value, whole.resampled - start.resampled
    changes = {
        "sum_of_changes": (value, resampled),
        "joint_change": together,
        "additivity_gap": (value - together[0], resampled - together[1]),
    }
    axes: dict[str, Any] = {"intervention": joint.condition, "of": measured.metric}
    axes |= {"feature": measured.feature, "head": measured.head}
    for metric, (change, drawn) in changes.items():
        low, high = percentiles(drawn, cfg.statistics.confidence)
        p = wald(float(change), error(drawn)) if metric == "additivity_gap" else None
        job.rows.add(metric, float(change), before.n, low=low, high=high, p=p, **axes)
