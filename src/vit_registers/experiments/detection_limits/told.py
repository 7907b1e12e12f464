"""What the report says of the limits of detection: whether the published score misses weak register neurons."""

from typing import Any

from vit_registers.views.study import Study


def told(study: Study) -> dict[str, Any]:
    """What is to be seen in the figure."""
    rows = study.metric_rows("planted_recall", seed=None, score="activation", sparsity="off", ranked="every block")
    recall = rows[rows["value"].notna()].sort_values("activation")["value"]
    missed = len(recall) > 1 and recall.iloc[0] < recall.iloc[-1]
    return {"headlines": {"detection_limits": "Weak register neurons escape the published score."} if missed else {}}
