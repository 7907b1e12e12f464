"""Extraction in shards: what they give together is byte for byte what one job gives, whatever is killed or missing."""

import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.workshop import CONDITIONS, contents
from vit_registers.core.errors import InputError
from vit_registers.core.files import read_json
from vit_registers.extraction import extract, join, shards, store
from vit_registers.interventions.kinds.ablate import Ablate
from vit_registers.interventions.kinds.append import Append
from vit_registers.interventions.kinds.test_time_registers import TestTimeRegisters
from vit_registers.params.shard import Shard
from vit_registers.params.shard import shards as all_shards
from vit_registers.pipeline.paths import Paths

# A phase of every kind: whole images, training images with patches, dense ones with maps and sinks, with sinks alone
# and with neither, second views, and dense ones at their own sizes.
EVERYTHING = {
    "dense_images": 11,
    "train_dense_images": 2,
    "attention_maps": 2,
    "sink_images": 4,
    "pairs": 3,
    "patch_layers": [0, -1],
    "specials_layers": True,
    "neighbours": True,
    "cls_parts": True,
    "cls_blocks": 1,
    "projections_size": "native",
}
# Conditions that mix images of a batch, draw for each image, change one image of a batch, and do not apply.
MIXED = {
    "other": Ablate(tokens="registers", by="resample"),
    "some": Ablate(tokens="patches", count=3),
    "first": TestTimeRegisters(tokens=2, images="first", batch=3),
    "append": Append(tokens=2),
}
BASELINE_BATCHES = 2 + 1 + 1 + 1 + 2 + 1  # by threes; and those at native size


def finished(workshop):
    """Bytes of what is delivered; of shards nothing may be left but what says that they passed."""
    found = contents(workshop.features)
    left = {name for name in found if name.startswith("unfinished/")}
    assert all(name.endswith(".json") and "-of-" in name for name in left), left
    return {name: content for name, content in found.items() if name not in left}


def together(workshop, count, model, interventions=None, **settings):
    """All shards, the last first, then joined."""
    for shard in reversed(all_shards(count)):
        workshop.run_shard(shard, model, interventions, **settings)
    workshop.join(count, model, interventions, **settings)


# --- whose batches are whose -----------------------------------------------------------------------------------------


def phases(counts):
    starts = np.cumsum([0, *counts])
    return [SimpleNamespace(batches=[np.array([start + i]) for i in range(n)]) for start, n in zip(starts, counts)]  # noqa: B905


@given(st.lists(st.integers(0, 12), max_size=8), st.integers(1, 9))
def test_every_batch_is_of_one_shard_and_no_shard_has_two_more_than_another(counts, of):
    dealt = [[batches for _, batches in shards.parts(phases(counts), shard)] for shard in all_shards(of)]
    for number, count in enumerate(counts):
        joined = [
            int(batch[0]) for part in dealt for batch in part[number]
        ]  # shard after shard: each part is contiguous
        start = sum(counts[:number])
        assert joined == list(range(start, start + count))
    sizes = [sum(len(batches) for batches in part) for part in dealt]
    assert max(sizes) - min(sizes) <= 1


@given(st.sets(st.integers(0, 40)))
def test_ranges_hold_the_rows(rows):
    found = shards.ranges(np.array(list(rows), dtype=np.int64))
    assert [row for start, stop in found.tolist() for row in range(start, stop)] == sorted(rows)
    assert (found[1:, 0] > found[:-1, 1]).all()  # those that touch are one


@given(st.lists(st.integers(0, 3), max_size=12), st.booleans())
def test_ranges_cover_what_holds_every_row_once(owners, twice):
    owned = np.array(owners, dtype=np.int64)
    parts = [shards.ranges(np.flatnonzero(owned == owner)) for owner in range(4)]
    assert join.covers(parts, len(owners))
    assert not join.covers(parts, len(owners) + 1)
    if owners:
        assert not join.covers(parts, len(owners) - 1)
        lone = shards.ranges(np.array([0]))
        assert not join.covers([*parts, lone], len(owners))
        rest = [shards.ranges(np.setdiff1d(np.flatnonzero(owned == owner), [0])) for owner in range(4)]
        assert not join.covers(rest, len(owners))


@pytest.mark.parametrize("chunk", [1, 24, 50, 1 << 26])
def test_rows_are_copied_whatever_is_copied_at_a_time(chunk, monkeypatch):
    monkeypatch.setattr(join, "CHUNK", chunk)
    source = np.arange(60.0).reshape(20, 3)
    target = np.zeros_like(source)
    rows = np.array([0, 1, 2, 3, 7, 11, 12, 19])
    join.copy(source, target, shards.ranges(rows))
    expected = np.zeros_like(source)
    expected[rows] = source[rows]
    np.testing.assert_array_equal(target, expected)


@pytest.mark.parametrize("text", ["0-of-2", "3-of-2", "1of2", "a-of-2", "", "1-of-"])
def test_what_names_no_shard_is_refused(text):
    with pytest.raises(InputError, match=f"shard '{text}': expected one such as 2-of-3"):
        Shard.parse(text)


def test_a_shard_is_read_as_it_is_written():
    assert [Shard.parse(str(shard)) for shard in all_shards(3)] == all_shards(3)


def test_the_pipeline_and_the_store_name_the_same_file(tmp_path):
    at = Paths("s", tmp_path)
    for kind in ("baseline", "ablated"):
        ours = store.stamp(at.features, "d", "m", kind == "ablated", Shard(2, 3))
        assert at.shard(kind, "d", "m", "2-of-3") == ours


# --- the same bytes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 3, 5, pytest.param(40, marks=pytest.mark.slow)])
def test_shards_together_are_byte_for_byte_one_job(viewed, count):
    """Forty shards are more than there are batches: some have none."""
    viewed.run("vit-r2", **EVERYTHING)
    one = contents(viewed.features)
    assert len([name for name in one if name.endswith(".npy")]) > 25
    shutil.rmtree(viewed.features)
    together(viewed, count, "vit-r2", **EVERYTHING)
    assert finished(viewed) == one


@pytest.mark.parametrize("count", [2, pytest.param(5, marks=pytest.mark.slow)])
def test_shards_are_one_job_under_interventions_that_mix_the_images_of_a_batch(viewed, count):
    settings = {**EVERYTHING, "frozen_only": ["append"]}
    viewed.run("vit-r2", MIXED, **settings)
    one = contents(viewed.features)
    shutil.rmtree(viewed.features)
    together(viewed, count, "vit-r2", MIXED, **settings)
    assert finished(viewed) == one


def test_a_condition_that_does_not_apply_needs_no_arrays(workshop):
    workshop.run("vit", {"zero": CONDITIONS["zero"]})
    one = contents(workshop.features)
    shutil.rmtree(workshop.features)
    together(workshop, 2, "vit", {"zero": CONDITIONS["zero"]})
    assert finished(workshop) == one


def test_the_key_says_nothing_of_shards_and_of_loading(workshop):
    keys = set()
    for settings in ({}, {"shards": 3}, {"workers": 1}, {"ahead": 7}):
        step = workshop.step("vit", **settings)
        extractor = extract.Extractor(step, workshop.data, workshop.root / "models/vit", None, None)
        keys.add(extractor.key("baseline"))
    assert len(keys) == 1


def test_features_that_are_there_are_not_passed_again_for_another_number_of_shards(workshop, monkeypatch):
    """Snakemake clears them away before they are joined; until then the shards have taken links."""
    workshop.run("vit-r2", CONDITIONS)
    one = contents(workshop.features)
    monkeypatch.setattr(store.Writer, "write", lambda *arguments: pytest.fail("it passes"))
    for shard in all_shards(2):
        workshop.run_shard(shard, "vit-r2", CONDITIONS)
    shutil.rmtree(workshop.features / "ablated/tiny/vit-r2")
    workshop.join(2, "vit-r2", CONDITIONS)
    assert finished(workshop) == one


# --- killed ----------------------------------------------------------------------------------------------------------


def test_a_killed_shard_goes_on_where_it_was(viewed, counted, monkeypatch):
    viewed.run("vit-r2", **EVERYTHING)
    one = contents(viewed.features)
    shutil.rmtree(viewed.features)
    write, written = store.Writer.write, []

    def killed_in_time(self, *arguments):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(write(self, *arguments))

    with monkeypatch.context() as patch:
        patch.setattr(store.Writer, "write", killed_in_time)
        with pytest.raises(KeyboardInterrupt):
            viewed.run_shard(Shard(2, 3), "vit-r2", **EVERYTHING)
    folder = store.unfinished_folder(viewed.features, "tiny", "vit-r2", False) / "2-of-3"
    assert read_json(folder / "baseline.partial/progress.json")["done"] == 2
    assert not folder.with_suffix(".json").exists()
    written.clear()
    with monkeypatch.context() as patch:
        patch.setattr(store.Writer, "write", lambda self, *a: written.append(write(self, *a)))
        viewed.run_shard(Shard(2, 3), "vit-r2", **EVERYTHING)
        rest = len(written)
        viewed.run_shard(Shard(1, 3), "vit-r2", **EVERYTHING)
        assert abs(len(written) - rest - (rest + 2)) <= 1  # what was done is not done again
    together(viewed, 3, "vit-r2", **EVERYTHING)
    assert finished(viewed) == one


@pytest.mark.slow
def test_joining_that_is_killed_anywhere_and_resumed_gives_the_same_bytes(viewed, killed_before_line):
    settings, conditions = {"dense_images": 7, "pairs": 3}, {name: MIXED[name] for name in ("some", "append")}
    viewed.run("vit-r2", conditions, **settings)
    one = contents(viewed.features)
    shutil.rmtree(viewed.features)
    for shard in all_shards(3):
        viewed.run_shard(shard, "vit-r2", conditions, **settings)
    passed = viewed.root / "passed"
    shutil.copytree(viewed.features, passed)
    number, kills, alive = 0, 0, False
    while not alive:
        shutil.rmtree(viewed.features)
        shutil.copytree(passed, viewed.features)
        alive = not killed_before_line(lambda: viewed.join(3, "vit-r2", conditions, **settings), number)
        kills += not alive
        shutil.rmtree(viewed.features / "ablated/tiny/vit-r2", ignore_errors=True) if not alive and not _listed(
            viewed
        ) else None
        viewed.join(3, "vit-r2", conditions, **settings)
        assert finished(viewed) == one, number
        number += 61
    assert kills > 8


def _listed(workshop):
    """Whether conditions were being delivered: from then on they are in their places."""
    folder = workshop.features / "ablated/tiny/vit-r2"
    return folder.is_dir() and any(folder.iterdir())


def test_at_most_one_array_is_stored_twice(viewed, monkeypatch):
    settings = {"dense_images": 7}
    for shard in all_shards(3):
        viewed.run_shard(shard, "vit-r2", **settings)
    unfinished, twice = store.unfinished_folder(viewed.features, "tiny", "vit-r2", False), []
    _join = join._join

    def watched(name, written, first):
        others = [path.stem for n in (2, 3) for path in (unfinished / f"{n}-of-3/baseline").glob("*.npy")]
        joined = read_json(first / join.JOINED)["arrays"] if (first / join.JOINED).is_file() else []
        twice.append(set(others) & set(joined))
        _join(name, written, first)

    monkeypatch.setattr(join, "_join", watched)
    viewed.join(3, "vit-r2", **settings)
    assert len(twice) > 8
    assert set().union(*twice) == set()


# --- missing ---------------------------------------------------------------------------------------------------------


def test_a_shard_that_is_missing_is_named_with_the_command_that_makes_it(workshop):
    for shard in (Shard(1, 3), Shard(3, 3)):
        workshop.run_shard(shard, "vit-r2", CONDITIONS)
    before = contents(workshop.features)
    with pytest.raises(
        InputError, match=r"2-of-3\.json: no such file: shard 2-of-3 has not passed; run `vit-regis"
    ) as e:
        workshop.join(3, "vit-r2", CONDITIONS)
    assert "`vit-registers ablate-shard --dataset tiny --model vit-r2 --shard 2-of-3`" in str(e.value)
    assert "\n" not in str(e.value)
    assert contents(workshop.features) == before


def test_a_shard_whose_features_are_gone_is_named(workshop):
    for shard in all_shards(2):
        workshop.run_shard(shard)
    shutil.rmtree(store.unfinished_folder(workshop.features, "tiny", "vit", False) / "2-of-2")
    with pytest.raises(InputError, match=r"baseline: not what shard 2-of-2 wrote; run `vit-registers extract-shard"):
        workshop.join(2)
    workshop.run_shard(Shard(2, 2))
    workshop.join(2)


def test_an_array_that_is_gone_is_named(workshop):
    for shard in all_shards(2):
        workshop.run_shard(shard)
    (store.unfinished_folder(workshop.features, "tiny", "vit", False) / "2-of-2/baseline/norms.npy").unlink()
    with pytest.raises(
        InputError, match=r"2-of-2/baseline/norms\.npy: missing; delete .*index\.json and run its shard"
    ):
        workshop.join(2)
    workshop.run_shard(Shard(2, 2))
    workshop.join(2)


def test_shards_of_other_params_or_of_another_model_are_not_joined(workshop):
    for shard in all_shards(2):
        workshop.run_shard(shard, dense_images=4)
    with pytest.raises(InputError, match="shard 1-of-2 was made under other params; run `vit-registers extract-shard"):
        workshop.join(2)
    workshop.run_shard(Shard(1, 2))
    shutil.copytree(workshop.root / "models/vit-r2", workshop.root / "models/vit", dirs_exist_ok=True)
    workshop.run_shard(Shard(2, 2))
    with pytest.raises(InputError, match="shard 2-of-2 is of another model, data or code than those before it; run"):
        workshop.join(2)


def test_what_another_number_of_shards_left_is_cleared_away(workshop):
    workshop.run_shard(Shard(1, 3))
    together(workshop, 2, "vit")
    unfinished = store.unfinished_folder(workshop.features, "tiny", "vit", False)
    assert [path for path in unfinished.iterdir() if path.is_dir()] == []


@pytest.mark.slow
def test_joining_needs_no_torch():
    code = "import sys, vit_registers.extraction.join; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
