"""A made-up study for tables and figures: rows and arrays that the measures themselves left."""

from dataclasses import dataclass

import pytest

from helpers import detections
from helpers.tokens import GRID, LIMIT, Made
from vit_registers.core import table
from vit_registers.interventions.kinds.append import Append
from vit_registers.interventions.kinds.test_time_registers import TestTimeRegisters
from vit_registers.models.layout import TokenLayout
from vit_registers.params.study import Comparison, Run
from vit_registers.pipeline import experiment
from vit_registers.pipeline.paths import Paths
from vit_registers.views.arrays import Arrays
from vit_registers.views.plan import Plan
from vit_registers.views.study import Study

REGISTERS = {"vit-r0": 0, "vit-r2": 2, "vit-r10": 10, "vit-tiny": 0}
LABELS = {
    "vit-r0": "ViT without registers",
    "vit-r2": "ViT with 2 registers",
    "vit-r10": "ViT with 10 registers",
    "vit-tiny": "ViT 64 wide, 4 deep",
    "planted": "Planted",
    "planted-48": "Planted at 48 px",
}
KINDS = {**dict.fromkeys(REGISTERS, "trained"), "planted": "planted", "planted-48": "planted"}
CONDITIONS = ["baseline", "append-2", "ttr-2"]
NEURONS = [(1, index) for index in range(7)]


@dataclass
class Views:
    """A study whose rows are those of all metrics, and where its arrays are."""

    study: Study
    at: Paths

    @property
    def arrays(self) -> Arrays:
        """Arrays as a figure gets them."""
        return Arrays(self.at, ("token_statistics",))


@pytest.fixture(scope="session")
def views(tmp_path_factory):
    """``views(models)``: the study of some models on the data set ``tiny``; only in ``planted`` neurons are moved."""
    root = tmp_path_factory.mktemp("views")
    made, rows = Made(root, boxes=True), {}
    at = Paths("made", root)
    for model in LABELS:
        registers = REGISTERS.get(model, 0)
        for condition in CONDITIONS:
            layout = TokenLayout(1, registers, GRID, appended=0 if condition == "baseline" else 2)
            made.add(model, condition, None if condition == "ttr-2" and model != "planted" else layout)
        if model == "planted-48":  # its artifacts are gone
            arrays = made.arrays[model, "baseline"]
            arrays["norms"] = arrays["norms"].clip(max=LIMIT)
            made.write(model, "baseline", arrays)
        detections.write(root, "tiny", model, NEURONS if model == "planted" else [])
        job = made.run(model, images=3, outlier_layer=1, conditions=CONDITIONS)
        job.out = at.measure("token_statistics", "tiny", model)
        job.write(images=False, arrays=True)
        found = detections.run(root, model, ["tiny"])
        rows[model] = job.rows.rows + found.rows.rows

    def of(models=tuple(LABELS)):
        plan = Plan(
            title="made up",
            runs=[Run(dataset="tiny", models=list(models), interventions=CONDITIONS[1:])],
            detections=[],
            comparisons=[Comparison(question="q", a="planted/ttr-2", b="planted/append-2")],
            interventions={"append-2": Append(tokens=2), "ttr-2": TestTimeRegisters(tokens=2)},
            models={model: LABELS[model] for model in models},
            conditions={"baseline": "baseline", "append-2": "2 zero tokens", "ttr-2": "2 test-time registers"},
            made={model: "trained here" for model in models},
            kinds={model: KINDS[model] for model in models},
            bases={"planted-48": "planted"} if "planted-48" in models else {},
            resized=[model for model in models if model == "planted-48"],
            registers={model: count for model, count in REGISTERS.items() if model in models},
            other_size=[model for model in models if model == "vit-tiny"],
            confidence=0.95,
        )
        measured = [row for model in models for row in rows[model]]
        return Views(Study(plan, table.frame(measured, experiment.axes())), at)

    return of
