"""Parts of [CLS] at the attention output, where it is known what each carries."""

import numpy as np
import pytest

from helpers.measuring import study_of
from vit_registers.core.numerics.linalg import gram_shares
from vit_registers.core.numerics.similarity import Compared
from vit_registers.experiments.decoupling import measure, tables
from vit_registers.experiments.decoupling.params import Config, Decoupling
from vit_registers.forward.readers.parts import PARTS
from vit_registers.params.statistics import Statistics
from vit_registers.views.study import select

CFG = Config(
    seed=0,
    statistics=Statistics(confidence=0.9, resamples=300),
    dataset="tiny",
    model="m",
    parts=[],
    full=["baseline"],
    settings=Decoupling(episodes=60, groups=6, largest_dimensions=2),
)


@pytest.fixture
def parts(study):
    """Addends (n, 5, 6): patches hold the class, registers the same for all, the skip noise, longer than all others."""
    rng = np.random.default_rng(1)
    labels, n = study.table["label"].to_numpy(), len(study.table)
    made = {
        "patches": 3.0 * rng.normal(size=(3, 6))[labels] + 0.3 * rng.normal(size=(n, 6)),
        "registers": 5.0 + 0.1 * rng.normal(size=(n, 6)),
        "itself": 0.1 * rng.normal(size=(n, 6)),
        "bias": np.tile(rng.normal(size=6), (n, 1)),
        "skip": 20.0 * rng.normal(size=(n, 6)),
    }
    return np.stack([made[part] for part in PARTS], axis=1).astype(np.float32)


@pytest.fixture
def run(study, job, parts):
    """Function that measures a model with some registers."""

    def rows(registers=4, out="out"):
        cls = parts.sum(axis=1)
        study.write_features("baseline", {"cls": cls, "cls_parts": parts}, study.rows("test"), registers=registers)
        one = job("decoupling", out)
        measure.run(CFG, one)
        one.rows.check()
        return one.rows.frame()

    return rows


def test_each_part_is_compared_with_what_it_is_a_part_of(study, parts, run):
    rows, test = run(), study.rows("test")
    of = {part: parts[test, i].astype(float) for i, part in enumerate(PARTS)}
    attention = of["patches"] + of["registers"] + of["itself"] + of["bias"]
    wholes = {measure.ATTENTION: attention, measure.STREAM: attention + of["skip"]}
    of["attention"] = attention
    for full, whole in wholes.items():
        for part in select(rows, metric="part_norm", full=full)["part"]:
            axes = {"part": part, "full": full}
            found = select(rows, metric="cka", estimator="linear", **axes)["value"].iloc[0]
            assert found == pytest.approx(Compared(whole, of[part]).cka("linear"), rel=1e-5)
            lengths = [np.sqrt(sum(x * x for x in row)) for row in of[part]]
            assert select(rows, metric="part_norm", **axes)["value"].iloc[0] == pytest.approx(
                np.mean(lengths), rel=1e-5
            )
            ratios = [length / np.linalg.norm(row) for length, row in zip(lengths, whole, strict=True)]
            assert select(rows, metric="part_norm_ratio", **axes)["value"].iloc[0] == pytest.approx(
                np.mean(ratios), 1e-5
            )
            cosines = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(of[part], whole, strict=True)]
            assert select(rows, metric="part_cosine", **axes)["value"].iloc[0] == pytest.approx(
                np.mean(cosines), abs=1e-5
            )


def test_what_holds_the_class_is_found(run):
    rows = run()
    unbiased = select(rows, metric="cka", estimator="unbiased", full=measure.ATTENTION).set_index("part")["value"]
    assert unbiased["patches"] > 0.95 > 0.3 > abs(unbiased["registers"])
    one_shot = select(rows, metric="one_shot_top1", full=measure.ATTENTION).set_index("part")["value"]
    assert one_shot["all"] > 0.95
    assert one_shot["registers"] < 0.6  # a third is chance
    ratio = select(rows, metric="part_norm_ratio", full=measure.STREAM).set_index("part")["value"]
    assert ratio["skip"] > ratio["attention"]


def test_gram_shares_add_up_and_are_those_of_products_of_images(study, parts, run):
    rows, test = run(), study.rows("test")
    for full, names in measure.WHOLES.items():
        found = select(rows, metric="gram_share", full=full).set_index("part")["value"]
        assert found.sum() == pytest.approx(1.0)
        centred = {p: parts[test, i] - parts[test, i].mean(axis=0) for i, p in enumerate(PARTS) if p in names}
        whole = sum(centred.values())
        gram = (whole @ whole.T).astype(float)
        for part, x in centred.items():
            assert found[part] == pytest.approx(np.sum((x @ x.T) * gram) / np.sum(gram * gram), rel=1e-3)
        assert select(rows, metric="gram_share", full=full)["low"].notna().all()


def test_gram_shares_of_one_part_and_of_orthogonal_ones():
    x = np.random.default_rng(0).normal(size=(20, 4))
    assert gram_shares(x[None]) == pytest.approx(np.ones((1, 1)))
    apart = np.zeros((2, 20, 8))
    apart[0, :, :4], apart[1, :, 4:] = x, x
    # A F' has A'A in it alone: as the Gram matrices are the same, each has half, or is half of both cross terms
    assert gram_shares(apart) == pytest.approx(np.array([[0.5, 0.0], [0.0, 0.5]]))


def test_a_model_without_registers_has_no_part_of_them(run):
    assert "registers" not in set(run(registers=0, out="none")["part"].dropna())


def test_the_table_has_every_part_below_its_whole(run):
    frame = tables.parts(study_of([run().assign(dataset="shapes")], ["m"])).frame()
    assert set(frame["full"]) == {measure.ATTENTION, measure.STREAM}
    named = frame[frame["full"] == measure.ATTENTION]["part"].tolist()
    assert sorted(named) == sorted(["patches", "registers", "itself", measure.CROSS, "all"])
    assert frame.loc[frame["part"] == "skip", "norm"].notna().all()
