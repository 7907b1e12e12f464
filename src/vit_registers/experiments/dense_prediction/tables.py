"""The table of dense prediction."""

from vit_registers.views.columns import CONDITION, KEYS, MODEL, by_condition
from vit_registers.views.study import Study
from vit_registers.views.table import Column, Table

HEADS = ("refitted", "frozen")


def dense_prediction(study: Study) -> Table:
    """Segmentation and depth under every condition, by heads refitted to it and by those of the model as it is."""
    columns = [MODEL, CONDITION]
    metres = not study.metric_rows("rmse_metres").empty
    relative = not metres or not study.metric_rows("rmse").empty
    for metric, group, shown in (
        ("miou", "Segmentation, mIoU (%)", True),
        ("rmse", "Depth, RMSE", relative),
        ("rmse_metres", "Depth, RMSE (m)", metres),
    ):
        if shown:
            columns += [
                Column(f"{metric}_{head}", head.capitalize(), metric, {"head": head}, group=group) for head in HEADS
            ]
    for head in HEADS:
        where = {"head": head}
        columns.append(
            Column(f"pixel_accuracy_{head}", f"Pixel accuracy (%), {head}", "pixel_accuracy", where, printed=False)
        )
    return by_condition(study, Table(columns, KEYS, heading=MODEL.key))
