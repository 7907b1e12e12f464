"""Tables of registers one by one, and pair by pair."""

from vit_registers.views.columns import KEYS, MODEL, row_of
from vit_registers.views.study import Study
from vit_registers.views.table import Column, Table

GIVEN = "Attention (%) from"
ONSET = "Onset of"
CONTENT = (
    Column("probe", "Probe (%)", "token_probe"),
    Column("recall", "Recall@1 (%)", "token_recall_at_1"),
    Column("content_onset", "content", "content_onset", group=ONSET),
)
OF_REGISTERS = (
    Column("from_cls", "[CLS]", "attention_to_register", {"group": "cls"}, group=GIVEN),
    Column("from_patches", "patches", "attention_to_register", {"group": "patches"}, group=GIVEN),
    Column("attention_onset", "attention", "attention_onset", {"group": "cls"}, group=ONSET),
    Column("own_patch", "Own patch (%)", "nearest_patch_own", {"group": "registers"}),
)
COSINES = (
    Column("cosine", "Of one image", "register_token_cosine"),
    Column("mean_cosine", "Of the means", "mean_register_cosine"),
)


def registers_one_by_one(study: Study) -> Table:
    """[CLS] and each register of every model as it is."""
    content, onset = CONTENT[:2], CONTENT[2]
    shown = [MODEL, Column("token", "Token"), *content, *OF_REGISTERS[:2], OF_REGISTERS[2], onset, OF_REGISTERS[3]]
    table = Table(shown, KEYS[:2], empty="no special tokens were kept by block", heading=MODEL.key)
    for before in study.baselines:
        rows = study.rows_of(before, "token_probe")
        each = rows[rows["value"].notna()][["group", "item"]].drop_duplicates()
        for i, (group, item) in enumerate(each.itertuples(index=False)):
            register = group == "registers"
            row = row_of(study, before, [], first=i == 0)
            row["token"] = f"register {item}" if register else "[CLS]"
            for column in CONTENT:
                axes = {"group": group, "item": item if register else None}
                row[column.key] = study.estimate(before, str(column.metric), **axes)
            for column in OF_REGISTERS if register else ():
                row[column.key] = study.estimate(before, str(column.metric), item=item, **dict(column.where))
            table.add(row, rule=i == 0)
    return table


def register_cosines(study: Study) -> Table:
    """Every pair of registers of every model as it is."""
    shown = [MODEL, Column("pair", "Registers"), *COSINES]
    table = Table(shown, KEYS[:2], empty="no model of this study has several registers", heading=MODEL.key)
    for before in study.baselines:
        pairs = study.rows_of(before, "register_token_cosine")[["item", "other_item"]]
        for i, (item, other) in enumerate(pairs.itertuples(index=False)):
            row = row_of(study, before, [], first=i == 0)
            row["pair"] = f"{item} and {other}"
            for column in COSINES:
                row[column.key] = study.estimate(before, str(column.metric), item=item, other_item=other)
            table.add(row, rule=i == 0)
    return table
