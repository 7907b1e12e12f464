"""How severe artifacts are and how much of that is gone, each number against a loop over images, layers and tokens."""

import numpy as np
import pandas as pd
import pytest

from helpers.measuring import rows_of
from helpers.tokens import L, M, one_model, parts
from vit_registers.core.seeds import generator
from vit_registers.experiments.token_statistics import tables_severity
from vit_registers.pipeline import experiment
from vit_registers.views.study import Study, select

RESAMPLES = 200


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """``append-2`` has half of the norms and a third of the attention of the model as it is, image by image."""
    made = one_model(tmp_path_factory.mktemp("severity"))
    own, other = made.arrays["m", "baseline"], made.arrays["m", "append-2"]
    patches, moved = (made.layouts["m", name].patch_slice for name in ("baseline", "append-2"))
    other["norms"][..., moved] = own["norms"][..., patches] / 2
    other["attention"][:, :, 0, moved] = own["attention"][:, :, 0, patches] / 3
    made.write("m", "append-2", other)
    return made


@pytest.fixture(scope="module")
def rows(made):
    return made.run(outlier_layer=1).rows.frame()


def one(rows, metric, condition="baseline", **axes):
    found = select(rows, metric=metric, intervention=condition, **axes)
    assert len(found) == 1, (metric, condition)
    return found.iloc[0]


def largest(made, metric, condition="baseline"):
    """What is largest in every image at every block, (m, layers), one by one."""
    arrays, at = made.arrays["m", condition], parts(made.layouts["m", condition])["patches"]
    found = np.zeros((M, L))
    for i in range(M):
        for layer in range(L):
            norms = sorted(float(arrays["norms"][i, layer, t]) for t in at)
            values = {
                "norm_peak": norms[-1],
                "norm_ratio_peak": norms[-1] / ((norms[2] + norms[3]) / 2),  # of six patches
                "attention_peak": max(float(arrays["attention"][i, layer, 0, t]) for t in at),
            }
            found[i, layer] = values[metric]
    return found


@pytest.mark.parametrize("condition", ["baseline", "append-2"])
@pytest.mark.parametrize("metric", ["norm_peak", "norm_ratio_peak", "attention_peak"])
def test_a_peak_is_the_largest_of_the_means_by_block(made, rows, metric, condition):
    row, expected = one(rows, metric, condition), largest(made, metric, condition).mean(axis=0)
    assert row["value"] == pytest.approx(max(expected), rel=1e-4)
    assert row["layer"] == list(expected).index(max(expected))
    assert row["n"] == M
    assert row["low"] < row["value"] < row["high"]


def test_the_interval_takes_the_peak_of_every_resample(made, rows):
    drawn = generator(0, "bootstrap", "tiny", M).multinomial(M, np.full(M, 1 / M), size=RESAMPLES)
    values = largest(made, "norm_peak")
    peaks = []
    for counts in drawn:
        image = [i for i in range(M) for _ in range(counts[i])]
        peaks.append(max(np.mean([values[i, layer] for i in image]) for layer in range(L)))
    row = one(rows, "norm_peak")
    assert [row["low"], row["high"]] == pytest.approx(np.quantile(peaks, [0.025, 0.975]), rel=1e-6)


def test_the_share_that_is_gone_is_that_of_paired_images(rows):
    """Each image lost the same share, so that its interval has no width; the model as it is lost nothing."""
    for metric, share in (("norm_reduction", 1 / 2), ("attention_reduction", 2 / 3)):
        row = one(rows, metric, "append-2")
        assert row[["value", "low", "high"]].tolist() == pytest.approx([share] * 3, abs=2e-4)
        assert select(rows, metric=metric, intervention="baseline").empty
        assert select(rows, metric=metric, intervention="ttr-4").empty


@pytest.mark.parametrize("condition", ["baseline", "append-2"])
def test_medians_by_kind_are_those_of_a_loop(made, rows, condition):
    arrays, at = made.arrays["m", condition], parts(made.layouts["m", condition])
    shown = {kind: at[kind] for kind in ("patches", "registers", "appended") if len(at[kind])}
    for kind, tokens in shown.items():
        norms = [float(arrays["norms"][i, 1, t]) for i in range(M) for t in tokens]
        row = one(rows, "token_norm_median", condition, group=kind)
        assert (row["value"], row["layer"]) == (pytest.approx(np.median(norms)), 1)
        assert row["low"] <= row["value"] <= row["high"]
        most = [max(float(arrays["cls_attention_max"][i, L - 1, t]) for t in tokens) for i in range(M)]
        row = one(rows, "attention_in_any_head", condition, target=kind)
        assert row["value"] == pytest.approx(sorted(most)[M // 2])
        assert row["low"] <= row["value"] <= row["high"]
    found = rows[(rows["metric"] == "token_norm_median") & (rows["intervention"] == condition)]
    assert set(found["group"]) == set(shown)


def test_a_model_without_cls_has_norms_alone(tmp_path):
    rows = one_model(tmp_path, cls=0).run().rows.frame()
    severe = rows[rows["metric"].str.contains("peak|reduction|in_any_head|token_norm_median")]
    assert set(severe["metric"]) == {"norm_peak", "norm_ratio_peak", "norm_reduction", "token_norm_median"}


def test_the_table_has_every_model_and_below_it_what_is_left(views):
    study = views().study
    frame = tables_severity.severity(study).frame()
    below = frame.groupby("model", sort=False)["condition"].apply(list).to_dict()
    assert below == {
        **{model: ["baseline"] for model in study.plan.models if model != "planted"},
        "planted": ["baseline", "append-2", "ttr-2"],
    }
    for line in frame.to_dict("records"):
        mine = select(study.rows, model=line["model"], intervention=line["condition"])
        for column in ("norm_peak", "norm_ratio_peak", "attention_peak", "norm_reduction", "attention_reduction"):
            found = mine[mine["metric"] == column]
            if found.empty:
                assert column.endswith("reduction")
                assert line["condition"] == "baseline"
                assert pd.isna(line[column])
                continue
            assert (line[column], line[f"{column}_low"]) == (found["value"].item(), found["low"].item())
            if column in ("norm_peak", "attention_peak"):
                assert line[f"{column}_layer"] == found["layer"].item()


@pytest.mark.parametrize(
    ("measured", "shown"),
    [
        ([("frozen", "patch_mean", 0.1)], 0.1),  # a model without [CLS], whose heads are not refitted
        ([("frozen", "cls", 0.2), ("frozen", "patch_mean", 0.1)], 0.2),
        ([("refitted", "cls", 0.3), ("frozen", "cls", 0.2)], 0.3),
        ([], None),
    ],
)
def test_the_change_of_accuracy_is_that_against_as_many_zero_tokens(views, measured, shown):
    study, differences = views().study, rows_of("comparisons", dataset="tiny", model="planted", intervention="ttr-2")
    differences.metrics = {name: metric for name, (_, metric) in experiment.metrics().items()}
    for head, feature, value in measured:
        for against, change in (("append-2", value), ("baseline", 9.0)):  # the paper's baseline has the tokens
            given = {"reference_model": "planted", "reference_intervention": against, "low": value, "high": value}
            differences.add("top1", change, 40, head=head, feature=feature, **given)
    whole = pd.concat([study.rows, differences.frame().reindex(columns=study.rows.columns)], ignore_index=True)
    frame = tables_severity.severity(Study(study.plan, whole.astype(study.rows.dtypes))).frame()
    if shown is None:
        assert frame["top1_change"].isna().all()
        return
    assert frame.loc[frame["top1_change"].notna(), ["condition", "top1_change"]].to_numpy().tolist() == [
        ["ttr-2", shown]
    ]


def test_patches_stand_against_registers_where_there_are_some(views):
    study = views().study
    frame = tables_severity.token_medians(study).frame()
    kinds = frame.groupby(["model", "condition"], sort=False)["kind"].apply(list).to_dict()
    assert kinds == {
        ("vit-r2", "baseline"): ["patches", "registers"],
        ("vit-r10", "baseline"): ["patches", "registers"],
        ("planted", "baseline"): ["patches"],
        ("planted", "append-2"): ["patches", "appended tokens"],
        ("planted", "ttr-2"): ["patches", "appended tokens"],
    }
    names = {"patches": "patches", "registers": "registers", "appended tokens": "appended"}
    for line in frame.to_dict("records"):
        mine, kind = select(study.rows, model=line["model"], intervention=line["condition"]), names[line["kind"]]
        assert line["norm"] == select(mine, metric="token_norm_median", group=kind)["value"].item()
        assert line["in_any_head"] == select(mine, metric="attention_in_any_head", target=kind)["value"].item()
        last = select(mine, metric="attention", group="cls", target=kind).sort_values("layer").iloc[-1]
        assert line["attention"] == last["value"]


def test_a_study_without_registers_says_so(views):
    table = tables_severity.token_medians(views(("vit-r0", "vit-tiny")).study)
    assert table.latex() == "\\emph{no model of this study has registers or appended tokens}\n"
