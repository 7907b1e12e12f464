"""What a study will take, against a count by hand."""

from pathlib import Path

import pytest

from helpers.studies import load, only
from vit_registers.estimate import estimate, text
from vit_registers.params.study import Params
from vit_registers.pipeline.paths import Paths

WIDTH, DEPTH, PATCHES, IMAGES = 64, 6, 64, {"train": 1000, "test": 300}


@pytest.fixture(scope="module")
def study() -> Params:
    """One model of one head a piece of the smoke study: 64 pixels in patches of 8, four registers or none."""
    runs = [
        {
            "dataset": "shapes",
            "models": ["vit-r4"],
            "interventions": ["append-4"],
            "heads": "frozen",
            "experiments": ["retrieval"],
        }
    ]
    nothing = {"specials_layers": False, "cls_parts": False, "neighbours": False, "cls_blocks": 0, "sink_images": 0}
    off = dict.fromkeys(("classification", "decoupling", "information_flow", "attention_sinks"))
    changed = {"extraction": {**nothing, "projections": {"k": [-1]}}, "experiments": off}
    return load("smoke", {**only({"runs": runs}), **changed})


def operations(tokens: int) -> int:
    """Of one image: every multiplication and addition of matrices, block by block."""
    qkv, out = 2 * tokens * WIDTH * 3 * WIDTH, 2 * tokens * WIDTH * WIDTH
    attention = 2 * (2 * tokens * tokens * WIDTH)  # queries by keys, weights by values, over all heads
    mlp = 2 * (2 * tokens * WIDTH * 4 * WIDTH)
    embedding = 2 * PATCHES * 8 * 8 * 3 * WIDTH
    return embedding + DEPTH * (qkv + attention + out + mlp)


def test_jobs_passes_and_operations_are_those_counted_by_hand(study: Params, tmp_path: Path) -> None:
    found = estimate(study, Paths(study.folder, tmp_path))
    assert found.unknown == []
    assert found.images == {"shapes": 1300}
    costs = found.costs
    each = operations(1 + 4 + PATCHES)
    assert (costs["train"].jobs, costs["train"].passes) == (1, 3 * 2 * 1000)  # epochs x images, forth and back
    assert (costs["extract"].jobs, costs["extract"].passes) == (1, 1300)
    assert (costs["ablate"].jobs, costs["ablate"].passes) == (1, 300)  # training images do not pass: heads are frozen
    assert (costs["detect"].jobs, costs["detect"].passes) == (1, 100)
    for name in ("train", "extract", "ablate", "detect"):
        assert costs[name].operations == costs[name].passes * each
    hours = sum(cost.operations for cost in costs.values()) / 1e12 / 3600
    total = next(line for line in text(study, found, 1.0).splitlines() if line.startswith("all"))
    assert float(total.split()[3]) == pytest.approx(hours, rel=5e-3)


def test_a_limit_cuts_what_passes(study: Params, tmp_path: Path) -> None:
    few = study.model_copy(update={"limit": 8})
    costs = estimate(few, Paths(few.folder, tmp_path)).costs
    assert (costs["extract"].passes, costs["detect"].passes, costs["train"].passes) == (16, 8, 3 * 2 * 8)


def test_bytes_are_those_of_the_arrays(study: Params, tmp_path: Path) -> None:
    """All that the pass of the model as it is keeps, array by array; a row of attention for [CLS] and registers."""
    stored = estimate(study, Paths(study.folder, tmp_path)).costs["extract"].bytes
    dense, train = 200, 200
    whole = 1300 * 4 * (WIDTH + 4 * WIDTH + WIDTH + 10)  # [CLS], registers, mean patch, logits
    patches = (dense + train) * 2 * PATCHES * WIDTH
    assert stored > whole + patches
    assert stored < 4 * (whole + patches)


def test_what_passes_in_shards_costs_what_it_costs_in_one_job(study: Params, tmp_path: Path) -> None:
    sharded = study.model_copy(update={"extraction": study.extraction.model_copy(update={"shards": 3})})
    one, costs = (estimate(each, Paths(study.folder, tmp_path)).costs for each in (study, sharded))
    for name in ("extract", "ablate"):
        shards, join = costs[f"{name}_shard"], costs[f"{name}_join"]
        assert (shards.jobs, join.jobs) == (3, 1)
        assert (shards.passes, shards.operations) == (one[name].passes, one[name].operations)
        assert (shards.bytes, join.passes, join.operations, join.bytes) == (0, 0, 0, one[name].bytes)


def test_what_a_setting_keeps_is_what_is_stored_less_without_it(study: Params, tmp_path: Path) -> None:
    """[CLS] of two blocks, keys of the last block and whole maps, each counted by hand; what is off keeps nothing."""
    changed = study.extraction.model_copy(update={"cls_blocks": 2, "attention_maps": 5})
    found = estimate(study.model_copy(update={"extraction": changed}), Paths(study.folder, tmp_path))
    conditions, tokens = 2, (1 + 4 + PATCHES, 1 + 4 + PATCHES + 4)
    passed = (1300, 300)  # as it is, and with four tokens, of which training images do not pass
    half, single, heads = 2, 4, study.recipes["small"].architecture.heads
    assert found.kept["projections"] == conditions * 200 * PATCHES * WIDTH * half
    assert found.kept["cls_blocks"] == sum(n * 2 * WIDTH * single for n in passed)
    assert found.kept["attention_maps"] == sum(5 * DEPTH * heads * t * t * half for t in tokens)
    assert found.kept["specials_layers"] == found.kept["neighbours"] == 0
    assert found.kept["train_dense_images"] >= 200 * PATCHES * WIDTH * half
    line = next(line for line in text(study, found, 1.0).splitlines() if line.startswith("disk, GB, by setting"))
    assert f"dense_images {found.kept['dense_images'] / 1e9:,.2f}" in line  # others are too little to be told


def test_what_cannot_be_counted_is_told(study: Params, tmp_path: Path) -> None:
    changed = only({"runs": [{"dataset": "digits", "models": ["colour"], "interventions": []}]})
    other = load("smoke", {**changed, "datasets": {"digits": {"kind": "digits"}}})
    found = estimate(other, Paths(other.folder, tmp_path))
    assert len(found.unknown) == 2
    assert "not counted: data set 'digits'" in text(other, found, 1.0)
