"""Tables of parts against full outputs, and of how much tokens depend on the image."""

from typing import Any

from vit_registers.views.columns import CONDITION, KEYS, MODEL, row_of, tells
from vit_registers.views.study import Condition, Study
from vit_registers.views.table import Cell, Column, Table

CKA = "CKA"
COLUMNS = (
    Column("cka", "Linear", "cka", {"estimator": "linear"}, group=CKA),
    Column("unbiased_cka", "Unbiased", "cka", {"estimator": "unbiased"}, group=CKA),
    Column("cosine", "Cosine", "part_cosine"),
)
NORMS = (
    Column("norm", "Norm", "part_norm"),
    Column("norm_ratio", "Of the whole", "part_norm_ratio", printed=False),
    Column("gram", "Gram (%)", "gram_share"),
)
ONE_SHOT = Column("one_shot", "One shot, top-1 (%)", "one_shot_top1")
WIDE = Column("one_shot_top5", "One shot, top-5 (%)", "one_shot_top5")
OF = Column("full", "Of")
COSINE, LARGEST = "Pairwise cosine", "Largest dimensions (%)"
DEPENDENCE = (
    Column("longest", "Longest (%)", "longest_register"),
    Column("ratio", "Over other tokens", "longest_register_ratio"),
    Column("raw", "Raw", "pairwise_cosine", {"state": "raw"}, group=COSINE),
    Column("normed", "Normed", "pairwise_cosine", {"state": "normed"}, group=COSINE),
    Column("centred", "Centred", "pairwise_cosine", {"state": "centred"}, group=COSINE),
    Column("largest_raw", "Raw", "largest_dimensions", {"state": "raw"}, group=LARGEST),
    Column("largest_normed", "Normed", "largest_dimensions", {"state": "normed"}, group=LARGEST),
)
SPLIT = (
    Column("parameters", "Parameters", "parameters"),
    Column("share", "On registers (%)", "register_share"),
    Column("sd", "SD over images (%)", "register_share_sd"),
    Column("uniform", "If all got the same (%)", "register_share_uniform"),
)


def _one_shot(study: Study) -> list[Column]:
    return [ONE_SHOT, WIDE] if len(study.metric_rows("one_shot_top5")) else [ONE_SHOT]


def decoupling(study: Study) -> Table:
    """Every restricted condition of every model against each full output; the full output itself in one shot."""
    columns = [*COLUMNS, *_one_shot(study)]
    table = Table(
        [MODEL, CONDITION, OF, *columns],
        (*KEYS, "full_condition"),
        empty="no attention of [CLS] was restricted in this study",
    )
    for before in study.baselines:
        first = True
        mine = study.of(before.dataset, before.model)
        for full in mine:
            for condition in [full, *(c for c in mine if c != full)]:
                row = _row(study, condition, columns, part=None, full=full.name)
                if tells(row):
                    row |= {"full_condition": full.name, "full": study.conditions[full.name]}
                    table.add(row | {"model_label": study.model_label(before) if first else ""}, rule=first)
                    first = False
    return table


def parts(study: Study) -> Table:
    """Every part of every model as it is, below the full output that it is one of."""
    columns = [*COLUMNS, *NORMS, *_one_shot(study)]
    shown = [MODEL, OF, Column("part", "Part"), *columns]
    table = Table(shown, KEYS[:2], empty="no parts of [CLS] were kept", heading=MODEL.key)
    for before in study.baselines:
        rows = study.rows_of(before)
        rows = rows[rows["part"].notna()] if len(rows) else rows
        for i, (full, part) in enumerate(rows[["full", "part"]].drop_duplicates().sort_values(["full"]).to_numpy()):
            row = _row(study, before, columns, part=part, full=full)
            row |= {"full": full, "part": part, "model_label": study.model_label(before) if i == 0 else ""}
            table.add(row, rule=i == 0)
    return table


def _row(study: Study, condition: Condition, columns: list[Column], **axes: Any) -> dict[str, Cell]:
    """What was measured of a condition against a full output; nothing where that is none."""
    row: dict[str, Cell] = {"dataset": condition.dataset, "model": condition.model, "condition": condition.name}
    row["condition_label"] = study.conditions[condition.name]
    for column in columns:
        if column.metric is not None and study.has(condition, column.metric, **axes):
            row[column.key] = study.estimate(condition, column.metric, **axes, **dict(column.where))
    return row


def image_dependence(study: Study) -> Table:
    """[CLS] and each register of every model as it is."""
    shown = [MODEL, Column("token", "Token"), *DEPENDENCE]
    table = Table(shown, KEYS[:2], empty="no special tokens were kept by layer", heading=MODEL.key)
    for before in study.baselines:
        rows = study.rows_of(before, "pairwise_cosine", state="raw")
        for i, (group, item) in enumerate(rows[["group", "item"]].drop_duplicates().itertuples(index=False)):
            axes = {"group": group, "item": None if group == "cls" else item}
            row = row_of(study, before, [], first=i == 0)
            row |= {"token": "[CLS]" if group == "cls" else f"register {item}"}
            for column in DEPENDENCE:
                assert column.metric is not None
                if study.has(before, column.metric, **axes):
                    row[column.key] = study.estimate(before, column.metric, **axes, **dict(column.where))
            table.add(row, rule=i == 0)
    return table


def attention_split(study: Study) -> Table:
    """Models with registers as they are, by number of parameters."""
    table = Table([MODEL, *SPLIT], KEYS[:2], empty="no model of this study has [CLS] and registers")
    for condition in by_size(study, "register_share"):
        table.add(row_of(study, condition, SPLIT))
    return table


def by_size(study: Study, metric: str) -> list[Condition]:
    """Models as they are that a metric was measured of, by data set and number of parameters."""
    found = [c for c in study.baselines if study.estimate(c, metric).value is not None]
    sizes = {c: study.estimate(c, "parameters").value or 0.0 for c in found}
    return sorted(found, key=lambda c: (study.datasets.index(c.dataset), sizes[c]))
