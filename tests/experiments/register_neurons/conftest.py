"""A study of a planted and a natural model, the planted one looked at on a further data set as well."""

import pytest

from helpers import detections
from vit_registers.core import table
from vit_registers.params.study import Further, Run
from vit_registers.pipeline import experiment
from vit_registers.views.plan import Plan
from vit_registers.views.study import Study

SHAPES = [(1, 5), (0, 5), (2, 7), (1, 1), (0, 0), (0, 1), (2, 2)]
GREY = [(2, 7), (1, 5), (1, 9), (0, 5), (3, 3)]


@pytest.fixture
def study(tmp_path):
    detections.write(tmp_path, "shapes", "planted", SHAPES, planted=[(1, 5), (0, 5), (2, 7)])
    detections.write(tmp_path, "grey", "planted", GREY, planted=[(1, 5), (0, 5), (2, 7)])
    detections.write(tmp_path, "shapes", "vit-r0", [])
    rows = detections.run(tmp_path, "planted", ["shapes", "grey"]).rows.rows
    rows += detections.run(tmp_path, "vit-r0", ["shapes"]).rows.rows
    plan = Plan(
        title="made up",
        runs=[Run(dataset="shapes", models=["vit-r0", "planted"], interventions=[])],
        detections=[Further(dataset="grey", models=["planted"])],
        comparisons=[],
        interventions={},
        models={"vit-r0": "ViT without registers", "planted": "Planted [CLS]"},
        conditions={"baseline": "baseline"},
        made={"vit-r0": "trained here", "planted": "planted here"},
        kinds={"vit-r0": "trained", "planted": "planted"},
        bases={},
        resized=[],
        registers={"vit-r0": 0},
        other_size=[],
        confidence=0.95,
    )
    return Study(plan, table.frame(rows, experiment.axes()))
