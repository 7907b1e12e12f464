"""Kinds and classes of sinks on arrays whose sinks are known, one head of one image at a time."""

import numpy as np
import pytest
from pydantic import ValidationError

from helpers.jobs import job as job_of
from helpers.measuring import study_of, written
from helpers.studies import load, only
from helpers.tokens import GRID, L, M, Made
from vit_registers.core.errors import InputError
from vit_registers.core.files import read_json, write_json
from vit_registers.experiments.attention_sinks import figures, measure, tables
from vit_registers.experiments.attention_sinks.params import AttentionSinks, Config
from vit_registers.extraction import checksums
from vit_registers.models.layout import TokenLayout
from vit_registers.params.statistics import Statistics
from vit_registers.views import style
from vit_registers.views.study import Condition, select

HEADS, LOOKED_AT = 2, 5  # of the seven dense images
CONDITIONS = ["baseline", "append-2", "ttr-4"]
LIMITS = [9.0, 10.0, 11.0]
CFG = Config(
    seed=0,
    statistics=Statistics(confidence=0.95, resamples=200),
    dataset="tiny",
    model="m",
    conditions=CONDITIONS,
    settings=AttentionSinks(),
)
LAYOUTS = {"baseline": TokenLayout(1, 2, GRID), "append-2": TokenLayout(1, 2, GRID, appended=2)}


def some_sinks(layout, seed):
    """Arrays of sinks: every class and kind of token occurs."""
    rng = np.random.default_rng(seed)
    every = (LOOKED_AT, L, 1 + HEADS)
    return {
        "sink_shares": rng.uniform(0.1, 0.9, every).astype(np.float32),
        "sink_tokens": rng.integers(0, layout.length, every).astype(np.int32),
        "sink_medians": rng.uniform(0.01, 0.05, (LOOKED_AT, L)).astype(np.float32),
        "sink_queries": rng.choice([0.0, 0.5, 0.9, 1.0], (LOOKED_AT, L, HEADS)).astype(np.float32),
        "sink_ratios": rng.choice([0.1, 0.2, 0.4, 0.5, 3.0], (LOOKED_AT, L, HEADS)).astype(np.float32),
        "sink_ranks": rng.choice([1.0, 1.5, 1.6, 4.0], (LOOKED_AT, L, HEADS)).astype(np.float32),
    }


class MadeSinks(Made):
    """Features of a model with arrays of sinks, which only the first images have."""

    def fill(self):
        for seed, (condition, layout) in enumerate(LAYOUTS.items()):
            self.add("m", condition, layout)
            norms = self.arrays["m", condition]
            self.write("m", condition, norms | some_sinks(layout, seed))
        self.add("m", "ttr-4", None)

    def write(self, model, condition, arrays):
        """Rows of arrays of sinks are those of the images that were looked at; here all have so many."""
        cut = {name: array[:LOOKED_AT] if name.startswith("sink_") else array for name, array in arrays.items()}
        self.arrays[model, condition] = cut
        padded = {name: np.concatenate([a, np.zeros((M - len(a), *a.shape[1:]), a.dtype)]) for name, a in cut.items()}
        super().write(model, condition, padded)
        self.arrays[model, condition] = cut
        folder = self.root / "features" / ("baseline" if condition == "baseline" else "ablated") / "tiny" / model
        folder = folder if condition == "baseline" else folder / condition
        index = read_json(folder / "index.json")
        for name, array in cut.items():
            np.save(folder / f"{name}.npy", array)
            index["arrays"][name]["crc32"] = checksums.of(folder / f"{name}.npy")
        write_json(folder / "index.json", index)


def made_with(root, detected):
    made = MadeSinks(root)
    made.fill()
    write_json(root / "registers/tiny/m.json", {"threshold_by_layer": LIMITS, **detected})
    job = job_of("attention_sinks", root, dataset="tiny", model="m")
    measure.run(CFG, job)
    return made, written(job, "attention_sinks")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return made_with(tmp_path_factory.mktemp("sinks"), {"found": True, "images_ranked": 3})


def slow_kind(token, layout, norms, image, layer, artifacts=True):
    """A token by its place, and by its norm at the output of the block before."""
    if token < layout.cls:
        return "cls"
    if token < layout.cls + layout.registers or token >= layout.length - layout.appended:
        return "registers"
    above = layer > 0 and norms[image, layer - 1, token] > LIMITS[layer - 1]
    return "artifacts" if above and artifacts else "patches"


def slow_class(queries, ratio, rank):
    if queries < np.float32(0.9):
        return None
    if ratio <= 0.2:
        return "no-op"
    return "broadcast" if ratio >= 0.5 and rank <= 1.5 else "neither"


@pytest.mark.parametrize("condition", list(LAYOUTS))
def test_every_number_is_that_of_one_head_at_a_time(found, condition):
    made, rows = found
    arrays, layout = made.arrays["m", condition], LAYOUTS[condition]
    for layer in range(L):
        mine = select(rows, intervention=condition, layer=layer)

        def value(metric, mine=mine, **axes):
            row = select(mine, metric=metric, **{"sink_class": None, "group": None, **axes})
            assert len(row) == 1
            assert row["n"].iloc[0] == LOOKED_AT
            assert row["low"].iloc[0] <= row["value"].iloc[0] <= row["high"].iloc[0]
            return row["value"].iloc[0]

        heads = [(image, head) for image in range(LOOKED_AT) for head in range(HEADS)]
        at = (slice(None), layer)
        assert value("sink_share") == pytest.approx(arrays["sink_shares"][:, layer, 0].mean())
        over = arrays["sink_shares"][:, layer, 0].mean() / arrays["sink_medians"][:, layer].mean()
        assert value("sink_over_median") == pytest.approx(over)
        assert value("sink_ratio") == pytest.approx(arrays["sink_ratios"][at].mean())
        given = [arrays[f"sink_{name}"][at] for name in ("queries", "ratios", "ranks")]
        classes = [slow_class(*(float(a[image, head]) for a in given)) for image, head in heads]
        for name in ("no-op", "broadcast", "neither"):
            assert value("sink_events", sink_class=name) == pytest.approx(classes.count(name) / len(heads))
        events = [c is not None for c in classes]
        assert value("sink_events", sink_class="all") == pytest.approx(np.mean(events))
        norms, tokens = arrays["norms"], arrays["sink_tokens"]
        kinds = [slow_kind(tokens[image, layer, 1 + head], layout, norms, image, layer) for image, head in heads]
        whole = [slow_kind(tokens[image, layer, 0], layout, norms, image, layer) for image in range(LOOKED_AT)]
        for kind in ("cls", "registers", "artifacts", "patches"):
            of_kind = [event and each == kind for event, each in zip(events, kinds, strict=True)]
            assert value("sink_events", sink_class="all", group=kind) == pytest.approx(np.mean(of_kind))
            assert value("sink_token", group=kind) == pytest.approx(whole.count(kind) / LOOKED_AT)
    assert len(set(rows["sink_class"].dropna())) == 4
    assert select(rows, metric="sink_token", group="artifacts")["value"].max() > 0


def test_the_strongest_block_is_the_one_whose_most_attended_token_gets_most(found):
    made, rows = found
    for condition in LAYOUTS:
        means = [made.arrays["m", condition]["sink_shares"][:, layer, 0].mean() for layer in range(L)]
        row = select(rows, intervention=condition, metric="sink_layer").iloc[0]
        assert row["value"] == np.argmax(means)
        assert row["note"] == "chosen as the largest of all blocks"


def test_what_does_not_apply_says_why(found):
    rows = select(found[1], intervention="ttr-4")
    assert rows["value"].isna().all()
    assert rows["note"].str.contains("no artifacts found").all()


def test_where_detection_found_no_outliers_no_token_is_an_artifact(tmp_path):
    _, rows = made_with(tmp_path, {"found": False, "reason": "no outlier patches found"})
    assert (select(rows, metric="sink_token", group="artifacts")["value"] == 0).all()


def test_where_what_is_written_is_not_linear_sinks_have_no_class(tmp_path):
    made = MadeSinks(tmp_path)
    made.fill()
    arrays = made.arrays["m", "baseline"]
    arrays["sink_ratios"][:, 1] = np.nan
    arrays["sink_ranks"][:, 1] = np.nan
    made.write("m", "baseline", arrays)
    write_json(tmp_path / "registers/tiny/m.json", {"found": False, "threshold_by_layer": LIMITS})
    job = job_of("attention_sinks", tmp_path, dataset="tiny", model="m")
    measure.run(CFG.model_copy(update={"conditions": ["baseline"]}), job)
    rows = select(written(job, "attention_sinks"), layer=1)
    assert set(select(rows, metric="sink_events")["sink_class"]) == {"all"}
    assert select(rows, metric="sink_ratio").empty


def test_the_table_has_two_blocks_of_every_condition_and_the_figure_every_model(found):
    study = study_of([found[1].assign(dataset="shapes")], ["m"], interventions=["append-2", "ttr-4"])
    frame = tables.attention_sinks(study).frame()
    strongest = {
        name: int(select(found[1], intervention=name, metric="sink_layer")["value"].iloc[0]) for name in LAYOUTS
    }
    expected = [(name, layer) for name in LAYOUTS for layer in dict.fromkeys([strongest[name], L - 1])]
    measured = frame[frame["layer"].notna()]
    assert list(zip(measured["condition"], measured["layer"].astype(int), strict=True)) == expected
    assert frame["condition"].tolist()[-1] == "ttr-4"
    assert frame["note"].iloc[-1].startswith("no artifacts found")
    with style.styled():
        figure = figures.sinks_by_block(study, None)
    (panel,) = figure.axes
    assert [bar.get_height() for bar in panel.patches[:L]] == pytest.approx(
        list(study.series(Condition("shapes", "m"), "sink_events", sink_class="no-op"))
    )
    assert figure.get_size_inches()[0] <= style.WIDTH + 1e-9


def test_models_on_which_it_did_not_run_have_no_row():
    study = study_of([], ["m"])
    assert tables.attention_sinks(study).rows == []
    with style.styled():
        assert figures.sinks_by_block(study, None).texts[0].get_text() == "no sinks were looked for"


def test_a_study_that_looks_for_sinks_in_no_image_is_refused():
    runs = [{"dataset": "shapes", "models": ["vit-r0"], "interventions": [], "experiments": ["attention_sinks"]}]
    change = only({"runs": runs})
    load("embedded", change)
    with pytest.raises(InputError, match=r"experiments\.attention_sinks\.no_op: sinks are looked for in no image"):
        load("embedded", change | {"extraction": {"sink_images": 0}})
    with pytest.raises(ValidationError, match=r"no_op: expected less than broadcast \(0.5\), got 0.6"):
        AttentionSinks(no_op=0.6)
