"""The tables of the report, one function each; views of the tidy table, nothing is computed."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from vit_registers.core.errors import InputError
from vit_registers.experiments.dense_prediction.tables import dense, zero_shot
from vit_registers.experiments.emergence.tables import emergence, emergence_grid
from vit_registers.experiments.object_discovery.tables import lost_corloc, lost_grid, lost_sweep
from vit_registers.experiments.register_cost.tables import register_cost
from vit_registers.experiments.single_tokens.tables import local_information, token_classification
from vit_registers.experiments.token_statistics.tables import register_slots
from vit_registers.experiments.training_energy.tables import training_energy
from vit_registers.pipeline.configs import ViewStep
from vit_registers.views import labels as names
from vit_registers.views.rows import (
    CONDITION,
    CORLOC,
    KEYS,
    KNN,
    MODEL,
    NORMS,
    SHARE,
    TOP1_CLS,
    TOP1_PATCHES,
    WHERE,
    by_condition,
    row_of,
)
from vit_registers.views.study import NONE_FOUND, Condition, Study, counted, registers
from vit_registers.views.table import Cell, Column, Table
from vit_registers.views.tables_detection import detection, natural_models, neuron_overlap, neurons, positions
from vit_registers.views.tables_registers import downstream_registers, lost_registers


def models(study: Study) -> Table:
    """Every model as it is: how it was made, classification, object discovery."""
    table = Table([MODEL, Column("made", "Weights"), TOP1_CLS, TOP1_PATCHES, KNN, CORLOC], KEYS)
    for condition in study.baselines:
        row = row_of(study, condition, table.columns)
        table.add(row | {"made": names.KINDS[study.nature(condition.model)]})
    return table


def test_time_registers(study: Study) -> Table:
    """The models with artifacts under every condition, with the controls that they are compared with."""
    share = replace(SHARE, title="Artifacts (%)")
    seen = Column("cls_to_artifacts", "[CLS] on them (%)")
    columns = [MODEL, CONDITION, *NORMS, share, seen, CORLOC, replace(TOP1_CLS, title="Top-1 (%)")]
    table = Table(columns, KEYS, empty=NONE_FOUND, heading=MODEL.key)

    def row(condition: Condition, first: bool) -> dict[str, Cell]:
        cells = row_of(study, condition, columns, first)
        cells["artifact_share"] = study.estimate(condition, "norms", "artifact_share")
        return cells

    controls: list[Condition] = []
    for before in study.treated:
        for condition in study.of(before.dataset, before.model):
            table.add(row(condition, condition == before), rule=condition == before)
            control = study.control(condition)
            if control is not None and (control.dataset, control.model) != (before.dataset, before.model):
                controls.append(control)
    used = set(controls)
    before_controls = {Condition(c.dataset, c.model) for c in used}
    shown: set[tuple[str, str]] = set()
    for condition in study.planned:
        if condition in used | before_controls and condition not in study.treated:
            first = (condition.dataset, condition.model) not in shown
            shown.add((condition.dataset, condition.model))
            table.add(row(condition, first), rule=first)
    return table


def register_count(study: Study) -> Table:
    """Models trained with 0, 1, 2 ... registers and nothing else changed; one seed each."""
    columns = [
        Column("registers", "Registers", "r"),
        TOP1_CLS,
        TOP1_PATCHES,
        KNN,
        CORLOC,
        Column("register_cosine", "Registers", group="Cosine of attention maps"),
        Column("cls_register_cosine", "[CLS] and registers", group="Cosine of attention maps"),
    ]
    table = Table(columns, KEYS[:2], empty="no model of this study was trained with a chosen number of registers")
    for condition in counted(study):
        table.add(row_of(study, condition, columns) | {"registers": registers(study, condition)})
    return table


def probe(study: Study) -> Table:
    """Linear probes and nearest neighbours under every condition; further metrics on [CLS] are in the CSV."""
    top1 = "Top-1 of the linear probe (%)"
    columns = [
        MODEL,
        CONDITION,
        replace(TOP1_CLS, title="[CLS]", group=top1),
        Column("top3_cls", "Top-3 (%), [CLS]", printed=False),
        Column("macro_f1_cls", "Macro F1 (%), [CLS]", printed=False),
        Column("macro_precision_cls", "Macro precision (%), [CLS]", printed=False),
        Column("macro_recall_cls", "Macro recall (%), [CLS]", printed=False),
        Column("auc_cls", "AUC, [CLS]", printed=False),
        replace(TOP1_PATCHES, title="Mean patch", group=top1),
        Column("top1_cls+patch_mean", "Top-1 (%), both", printed=False),
        Column("top1_appended", "Appended", group=top1),
        Column("kept_cls", "Top-1 (%), head kept", printed=False),
        KNN,
        Column("linear_evaluation", "Linear eval. (%)"),
    ]
    return by_condition(study, Table(columns, KEYS, long=True, heading=MODEL.key))


def classification(study: Study) -> Table:
    """Test-time registers in classification as kukade2025 reports them, with the plain model and the test they lack.

    Their baseline has the appended tokens already, so the change is against those.
    """
    change = Column("change", "Change (points)", signed=True, p=True)
    columns = [
        MODEL,
        Column("tokens", "Tokens", "r"),
        Column("plain", "As it is"),
        Column("appended", "Zero tokens"),
        Column("moved", "Test-time registers"),
        change,
        Column("kept", "The same, head kept"),
    ]
    table = Table(columns, KEYS[:2], empty="no model of this study has both zero tokens and test-time registers")
    readout, metric = WHERE["top1_cls"]
    for before in study.baselines:
        first = True
        for moved in study.of(before.dataset, before.model):
            control = study.same_model_control(moved)
            if control is None or not study.moves_what_was_found(moved):
                continue
            row = row_of(study, before, (), first)
            row["tokens"] = study.cfg.interventions[moved.name].appended
            for column, condition in (("plain", before), ("appended", control), ("moved", moved)):
                row[column] = study.estimate(condition, readout, metric)
            reference = f"{control.model}/{control.name}"
            row["kept"] = study.estimate(moved, *WHERE["kept_cls"])
            row["change"] = study.estimate(moved, readout, f"{metric}_difference", reference=reference)
            table.add(row, rule=first)
            first = False
    return table


def register_sweep(study: Study) -> Table:
    """How many test-time registers: each number against what the study compares it with."""
    columns = [
        MODEL,
        Column("tokens", "Tokens", "r"),
        Column("norm_max", "Largest patch norm", "r"),
        replace(CORLOC, title="CorLoc (%)"),
        Column("corloc_difference", "against the control (points)", signed=True, p=True),
        replace(TOP1_CLS, title="Top-1 (%)"),
        Column("top1_difference", "against the control (points)", signed=True, p=True),
    ]
    table = Table(columns, KEYS, empty=NONE_FOUND)
    for before in study.treated:
        swept = [c for c in study.of(before.dataset, before.model) if study.moves_what_was_found(c)]
        swept = sorted((c for c in swept if study.measured(c)), key=study.tokens)
        for condition in swept:
            row = row_of(study, condition, columns, condition == swept[0])
            row["tokens"] = study.tokens(condition)
            control = study.control(condition)
            if control is not None:
                reference = f"{control.model}/{control.name}"
                for key in ("corloc", "top1_cls"):
                    readout, metric = WHERE[key]
                    name = f"{key.removesuffix('_cls')}_difference"
                    row[name] = study.estimate(condition, readout, f"{metric}_difference", reference=reference)
            table.add(row, rule=condition == swept[0])
    return table


def comparisons(study: Study) -> Table:
    """Paired differences, one row per question; readouts beyond the three shown are in the CSV."""
    shown = {
        "lost/corloc": "CorLoc (points)",
        "probe[cls]/top1": "Top-1 of [CLS] (points)",
    }
    rows = study.rows[study.rows["reference"].notna() & study.rows["value"].notna()]
    measured = sorted(set(rows["readout"] + "/" + rows["metric"].str.removesuffix("_difference")))
    columns = [Column("question", "Question: difference", r">{\raggedright\arraybackslash}p{7.8cm}")]
    for key in [*shown, *(key for key in measured if key not in shown)]:
        columns.append(Column(key, shown.get(key, key), signed=True, p=True, printed=key in shown))
    table = Table(columns, ("dataset", "a", "b"), empty="this study compares nothing", spaced=True, long=True)
    for dataset in study.datasets:
        ran = {f"{c.model}/{c.name}": c for c in study.planned if c.dataset == dataset}
        for comparison in study.cfg.comparisons:
            if comparison.a not in ran or comparison.b not in ran:
                continue
            a, b = ran[comparison.a], ran[comparison.b]
            row: dict[str, Cell] = {"dataset": dataset, "a": comparison.a, "b": comparison.b}
            row["question"] = (
                f"{comparison.question[:1].upper()}{comparison.question[1:]}:\n{study.label(a)} − {study.label(b)}"
            )
            for column in columns[1:]:
                readout, metric = column.key.split("/")
                row[column.key] = study.estimate(a, readout, f"{metric}_difference", reference=comparison.b)
            table.add(row)
    return table


TABLES: dict[str, Callable[[Study], Table]] = {
    "models": models,
    "detection": detection,
    "test_time_registers": test_time_registers,
    "natural_models": natural_models,
    "positions": positions,
    "emergence": emergence,
    "emergence_grid": emergence_grid,
    "neurons": neurons,
    "neuron_overlap": neuron_overlap,
    "classification": classification,
    "register_sweep": register_sweep,
    "local_information": local_information,
    "token_classification": token_classification,
    "register_count": register_count,
    "register_slots": register_slots,
    "lost_registers": lost_registers,
    "downstream_registers": downstream_registers,
    "register_cost": register_cost,
    "training_energy": training_energy,
    "probe": probe,
    "lost_corloc": lost_corloc,
    "lost_sweep": lost_sweep,
    "lost_grid": lost_grid,
    "dense": dense,
    "zero_shot": zero_shot,
    "comparisons": comparisons,
}


def run(name: str, cfg: ViewStep, metrics: Iterable[Path], out: Path) -> None:
    """Write ``name.csv`` and ``name.tex`` to the folder ``out`` from the tidy tables ``metrics``.

    ``metrics`` hold at least the rows that ``needs.TABLES[name]`` says. :class:`InputError` where there is no such
    table.
    """
    if name not in TABLES:
        raise InputError(f"no table '{name}'; tables are {', '.join(TABLES)}")
    TABLES[name](Study.read(cfg, metrics)).write(out, name)
