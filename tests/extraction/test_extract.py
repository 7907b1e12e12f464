"""The whole step on sixteen small images and two small models."""

import copy
import fcntl
import logging
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from helpers.interventions import append, move
from helpers.workshop import (
    CONDITIONS,
    NEURONS,
    NONE,
    SETTINGS,
    SPLITS,
    TEST,
    arrays,
    contents,
    times,
    write_model,
)
from vit_registers.core.errors import InputError
from vit_registers.core.files import exclusive, read_json, sha256, write_json
from vit_registers.core.seeds import generator
from vit_registers.data import manifest
from vit_registers.data.manifest import Manifest
from vit_registers.extraction import calibrate, extract, plan, store
from vit_registers.extraction.store import Features
from vit_registers.forward.readers.norms import Norms
from vit_registers.forward.reading import announce_rows
from vit_registers.interventions import activation_statistics
from vit_registers.interventions.base import Known, applied
from vit_registers.interventions.kinds.ablate import Ablate
from vit_registers.interventions.kinds.append import Append
from vit_registers.interventions.kinds.chain import Chain
from vit_registers.interventions.kinds.edit_sink_values import EditSinkValues
from vit_registers.interventions.kinds.test_time_registers import TestTimeRegisters
from vit_registers.models import backbone as backbones
from vit_registers.models.layout import TokenLayout
from vit_registers.params.passes import Calibration, Extraction
from vit_registers.pipeline.configs import CalibrateConfig

# --- baseline --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["vit", "vit-r2"])
def test_features_stand_in_the_order_of_the_manifest_and_are_the_models(workshop, model):
    workshop.run(model)
    features, tokens = Features.open(workshop.folder(model=model)), workshop.tokens(model)
    prefix = 3 if model == "vit-r2" else 1
    close = {"rtol": 1e-4, "atol": 1e-5}
    np.testing.assert_allclose(features.array("cls"), tokens[:, 0], **close)
    np.testing.assert_allclose(features.array("patch_mean"), tokens[:, prefix:].mean(1), **close)
    if model == "vit-r2":
        np.testing.assert_allclose(features.array("registers"), tokens[:, 1:3], **close)
    assert features.dense_rows.tolist() == TEST[:5]
    np.testing.assert_allclose(features.array("patches"), tokens[TEST[:5], prefix:], rtol=1e-3, atol=1e-3)
    assert features.layout == TokenLayout(1, prefix - 1, (4, 4))


def test_the_index_says_what_was_run(workshop):
    workshop.run("vit-r2")
    index = Features.open(workshop.folder(model="vit-r2")).index
    expected = {
        "dataset": "tiny",
        "model": "vit-r2",
        "condition": "baseline",
        "intervention": None,
        "depth": 2,
        "patch": [8, 8],
        "batch_size": 3,
        "device": "cpu",
        "status": "complete",
    }
    assert {name: index[name] for name in expected} == expected
    assert index["extraction"]["batch_size"] == 3
    assert index["versions"] == {package: version(package) for package in ("numpy", "timm", "torch")}
    assert set(index["arrays"]) == {
        "cls",
        "registers",
        "patch_mean",
        "patches",
        "norms",
        "attention",
        "cls_attention_max",
        "flow",
        "patch_attention",
        "k_01",
        "dense_rows",
    }


def test_more_dense_images_than_there_are_is_all_of_the_split(workshop):
    workshop.run(dense_images=100, batch_size=5)
    assert Features.open(workshop.folder()).dense_rows.tolist() == TEST


@pytest.mark.parametrize(("count", "dense"), [(7, [1, 3, 4]), (7, []), (4, [0, 1, 2, 3]), (1, [0])])
@pytest.mark.parametrize("size", [1, 2, 3, 16])
def test_the_plan_covers_every_row_once_with_the_dense_ones_last(workshop, count, dense, size):
    extraction = Extraction(**{**SETTINGS, "batch_size": size, "attention_maps": 2})
    split = ["test" if row in dense else "train" for row in range(count)]
    table = SimpleNamespace(table=split, rows=lambda wanted: np.flatnonzero(np.array(split) == wanted))
    planned = plan.Plan(backbones.load(workshop.root / "models/vit"), None, table, extraction)
    others, maps, rest = ([batch.tolist() for batch in phase.batches] for phase in planned.phases())
    assert [row for batch in others for row in batch] == [row for row in range(count) if row not in dense]
    assert [row for batch in [*maps, *rest] for row in batch] == dense
    assert sum(map(len, maps)) == min(2, len(dense))
    sizes = [len(batch) for batch in [*others, *maps, *rest]]
    assert max(sizes) <= size + (size > 1)  # a last image alone joins the batch before


@pytest.mark.parametrize("size", [2, 3, 5])
def test_no_batch_is_a_single_image_unless_there_is_only_one(size):
    for count in range(1, 13):
        batches = plan.batched(np.arange(count), size)
        assert np.concatenate(batches).tolist() == list(range(count))
        assert all(len(batch) > 1 for batch in batches) or count == 1


def test_features_do_not_depend_on_the_size_of_batches(workshop):
    """Not bit for bit, as sums are ordered otherwise, but to 1e-5, and to the last place of what is kept in half."""
    found = []
    for size in (1, 3, 7, 16):
        workshop.run("vit-r2", batch_size=size, dense_images=9)
        found.append(arrays(workshop.folder(model="vit-r2")))
    for other in found[1:]:
        assert other.keys() == found[0].keys()
        for name, array in found[0].items():
            half = array.dtype == np.float16
            np.testing.assert_allclose(other[name], array, rtol=2e-3 if half else 1e-5, atol=1e-4 if half else 1e-5)


def test_half_precision_is_what_params_ask_for(workshop):
    workshop.run()
    exact = arrays(workshop.folder())
    workshop.run(precision="bf16")
    half = arrays(workshop.folder())
    error = np.abs(half["cls"] - exact["cls"]).mean()
    assert 1e-4 < error < 0.1


# --- done already, and interrupted -----------------------------------------------------------------------------------


def test_a_second_run_does_nothing(workshop, monkeypatch):
    workshop.run()
    workshop.run("vit", CONDITIONS)
    before = times(workshop.features)
    monkeypatch.setattr(extract, "reading", lambda *arguments: pytest.fail("it computes"))
    workshop.run()
    workshop.run("vit", CONDITIONS)
    after = times(workshop.features)
    # Only what says that they are whole, beside the folders, is written anew.
    stamps = {workshop.features / kind / "tiny" / "vit.json" for kind in ("baseline", "ablated")}
    assert {path for path in before if after.get(path) != before[path]} == stamps
    assert after.keys() == before.keys()


@pytest.mark.slow
def test_two_runs_give_the_same_bytes(workshop):
    workshop.run("vit-r2")
    workshop.run("vit-r2", CONDITIONS)
    first = contents(workshop.features)
    shutil.rmtree(workshop.features)
    workshop.run("vit-r2")
    workshop.run("vit-r2", CONDITIONS)
    assert contents(workshop.features) == first
    assert len(first) > 30


BATCHES = 4 + 2  # eleven images that are not dense and five that are, by threes


@pytest.mark.parametrize("batches", range(BATCHES + 1))
def test_killed_after_any_batch_and_resumed_gives_the_same_bytes(workshop, counted, batches, monkeypatch):
    workshop.run()
    whole = contents(workshop.features)
    shutil.rmtree(workshop.features)
    write, written = store.Writer.write, []

    def killed_in_time(self, *arguments):
        if len(written) == batches:
            raise KeyboardInterrupt
        written.append(write(self, *arguments))

    def killed_at_the_end(self, *arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store.Writer, "write", killed_in_time)
        patch.setattr(store.Writer, "finish", killed_at_the_end)
        with pytest.raises(KeyboardInterrupt):
            workshop.run()
    partial = workshop.unfinished().with_name("baseline.partial")
    assert read_json(partial / "progress.json")["done"] == batches
    assert not workshop.folder().exists()
    written.clear()
    with monkeypatch.context() as patch:
        patch.setattr(store.Writer, "write", lambda self, *a: written.append(write(self, *a)))
        workshop.run()
    assert len(written) == BATCHES - batches  # what was done is not done again
    assert contents(workshop.features) == whole


DRIVER = """
import importlib.util, os, shutil, signal, sys
from pathlib import Path
from vit_registers.extraction import extract, store
from vit_registers.pipeline.configs import ExtractConfig

spec = importlib.util.spec_from_file_location("helpers", sys.argv[1])
helpers = importlib.util.module_from_spec(spec)
spec.loader.exec_module(helpers)
step = ExtractConfig.model_validate_json(sys.argv[2])
data, model, out, registers = map(Path, sys.argv[3:])

store.RECORD_SECONDS = 0.0

def study():
    extract.run(step, data, model, out, registers)

def contents():
    found = sorted(p for p in out.rglob("*") if p.is_file() and p.name != ".lock")
    return {str(p.relative_to(out)): p.read_bytes() for p in found}

study()
whole, number, kills, halves = contents(), 7, 0, 0
while True:
    shutil.rmtree(out)
    if not helpers.run_until_line(study, number):
        break
    kills += 1
    halves += any(name.endswith("progress.json") for name in contents())
    study()
    assert contents() == whole, number
    number += 97
print(kills, halves)
"""


@pytest.mark.slow
def test_a_process_killed_anywhere_and_resumed_gives_the_same_bytes(workshop):
    """A real SIGKILL before every 97th line that the store runs, over two conditions and one that does not apply."""
    registers = workshop.root / "registers.json"
    write_json(registers, NEURONS)
    step = workshop.step("vit", {name: CONDITIONS[name] for name in ("append", "move", "zero")}, batch_size=4)
    model, helpers = workshop.root / "models" / "vit", Path(__file__).parents[1] / "helpers/passes.py"
    paths = map(str, (workshop.data, model, workshop.features, registers))
    command = [sys.executable, "-c", DRIVER, str(helpers), step.model_dump_json(), *paths]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    kills, halves = map(int, done.stdout.split())
    assert kills >= 8
    assert halves >= 3  # killed amid a condition, which went on where it was


def test_half_a_folder_of_another_torch_is_not_completed(workshop, monkeypatch):
    workshop.run()
    before = read_json(workshop.folder() / "index.json")
    monkeypatch.setattr(extract, "version", lambda package: "0.0")
    workshop.run()
    after = read_json(workshop.folder() / "index.json")
    assert after["key"] != before["key"]
    assert set(after["versions"].values()) == {"0.0"}


def test_on_cpu_a_job_computes_on_one_thread_whatever_it_is_given(workshop, monkeypatch):
    threads, original = [], Norms.take
    monkeypatch.setattr(Norms, "take", lambda self: threads.append(torch.get_num_threads()) or original(self))
    torch.set_num_threads(2)
    try:
        workshop.run()
    finally:
        torch.set_num_threads(1)
    assert set(threads) == {1}


def test_conditions_that_were_made_are_kept_when_a_killed_job_begins_again_in_a_cleared_place(workshop, monkeypatch):
    """Snakemake removes the folder of a pair before it runs its job again; what the killed one did is elsewhere."""
    workshop.run("vit", CONDITIONS)
    whole = contents(workshop.features)
    shutil.rmtree(workshop.features)
    finish, finished = store.Writer.finish, []

    def killed_in_time(self, index):
        if len(finished) == 2:
            raise KeyboardInterrupt
        finished.append(finish(self, index))

    with monkeypatch.context() as patch:
        patch.setattr(store.Writer, "finish", killed_in_time)
        with pytest.raises(KeyboardInterrupt):
            workshop.run("vit", CONDITIONS)
    shutil.rmtree(workshop.features / "ablated" / "tiny" / "vit", ignore_errors=True)
    written, write = [], store.Writer.write
    with monkeypatch.context() as patch:
        patch.setattr(store.Writer, "write", lambda self, *a: written.append(self.folder.name) or write(self, *a))
        workshop.run("vit", CONDITIONS)
    assert set(written) == {"random"}  # of append, move, random and zero, which does not apply
    assert contents(workshop.features) == whole


def test_a_batch_is_written_while_the_next_one_passes(workshop, monkeypatch):
    """The first batch is not written before the second has begun to pass: it would wait for ever if one did for it."""
    begun, passed, original, write = threading.Event(), [], extract.reading, store.Writer.write

    @contextmanager
    def watched(*arguments):
        with original(*arguments) as forward:

            def counted_forward(pixels, rows):
                passed.append(len(pixels))
                if len(passed) == 2:
                    begun.set()
                forward(pixels, rows)

            yield counted_forward

    monkeypatch.setattr(extract, "reading", watched)
    monkeypatch.setattr(
        store.Writer, "write", lambda self, *a: (begun.wait(20) or pytest.fail("late")) and write(self, *a)
    )
    workshop.run()
    assert Features.open(workshop.folder()).status == "complete"


def test_what_goes_wrong_in_writing_is_told(workshop, monkeypatch):
    def full(*arguments):
        raise OSError("no space left on device")

    monkeypatch.setattr(store.Writer, "write", full)
    with pytest.raises(OSError, match="no space left"):
        workshop.run()
    assert not workshop.folder().exists()


# --- side by side ----------------------------------------------------------------------------------------------------


def start(target, *arguments):
    thread = threading.Thread(target=target, args=arguments, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("interventions", [None, {"append": CONDITIONS["append"]}], ids=["baseline", "ablated"])
def test_models_are_extracted_side_by_side_and_each_by_one_process_at_a_time(workshop, interventions):
    condition = "baseline" if interventions is None else "append"
    with exclusive(store.lock_folder(workshop.features, "tiny", "vit", ablated=interventions is not None)):
        other = start(workshop.run, "vit-r2", interventions)
        other.join(30)
        assert not other.is_alive()
        assert workshop.folder(condition, "vit-r2").is_dir()
        same = start(workshop.run, "vit", interventions)
        same.join(0.5)
        assert same.is_alive()
        assert not workshop.unfinished(condition).parent.exists()
    same.join(30)
    assert Features.open(workshop.folder(condition)).status == "complete"


def test_a_newer_study_waits_until_the_older_has_listed_its_conditions(workshop, monkeypatch):
    """Otherwise a process that outlived its study could prune the conditions of the next."""
    lock, held = store.lock_folder(workshop.features, "tiny", "vit", ablated=True) / ".lock", []

    def watched(function):
        def call(*arguments):
            with lock.open() as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    held.append(function.__name__)
            return function(*arguments)

        return call

    monkeypatch.setattr(store, "prune", watched(store.prune))
    monkeypatch.setattr(store, "write_json", watched(store.write_json))
    workshop.run("vit", {"zero": CONDITIONS["zero"]})
    assert held == ["write_json", "prune", "write_json"]  # the index of the condition, and the list


def test_only_the_condition_that_changed_is_run_again(workshop):
    workshop.run("vit", CONDITIONS)
    before = times(workshop.features)
    workshop.run("vit", {**CONDITIONS, "append": Append(tokens=3)})
    changed = {path.parent.name for path, time in times(workshop.features).items() if before.get(path) != time}
    assert changed == {"append", "tiny"}  # "tiny" holds vit.json, which lists the conditions


@pytest.mark.parametrize(
    "change",
    [
        {"batch_size": 4},
        {"precision": "bf16"},
        {"dense_images": 4},
        {"dense_split": "train"},
        {"projections": {"k": [0]}},
        {"pairs": 2},
    ],
    ids=repr,
)
def test_another_setting_is_another_result(workshop, change):
    workshop.run()
    before = read_json(workshop.folder() / "index.json")["key"]
    workshop.run(**change)
    assert read_json(workshop.folder() / "index.json")["key"] != before


def test_other_weights_models_images_or_preprocessing_are_another_result(workshop):
    keys, cls, weights = [], [], []

    def run():
        workshop.run()
        weights.append(sha256(workshop.root / "models" / "vit" / "model.safetensors"))
        keys.append(read_json(workshop.folder() / "index.json")["key"])
        cls.append(arrays(workshop.folder())["cls"])

    run()
    write_model(workshop.root / "models" / "vit", 0, seed=1)
    run()
    write_model(workshop.root / "models" / "vit", 0, seed=1, resize=(32, 32))  # the same weights on other pixels
    run()
    write_model(workshop.root / "models" / "vit", 0, seed=1, resize=(32, 32), heads=4)  # another model of them
    run()
    Image.new("RGB", (40, 40)).save(workshop.data / "images" / "00.png")
    table = Manifest.load(workshop.data).table
    table["width"] = [40, *table["width"][1:]]
    manifest.write(workshop.data, table, ["a", "b"], "tiny", ".", "made by the test", "MIT")
    run()
    assert len(set(keys)) == 5
    assert len({array.tobytes() for array in cls}) == 5
    assert len(set(weights)) == 2


def test_missing_arrays_are_made_again(workshop):
    workshop.run()
    whole = contents(workshop.features)
    (workshop.folder() / "norms.npy").unlink()
    workshop.run()
    assert contents(workshop.features) == whole


# --- ablated ---------------------------------------------------------------------------------------------------------


def test_conditions_are_those_of_params_and_of_what_was_detected(workshop):
    workshop.run("vit-r2", CONDITIONS)
    close = {"rtol": 1e-4, "atol": 1e-5}
    for condition, intervention in (("append", append(2)), ("move", move(((0, 3), (1, 7)), 1))):
        features = Features.open(workshop.folder(condition, "vit-r2"))
        expected = workshop.tokens("vit-r2", intervention)
        np.testing.assert_allclose(features.array("cls"), expected[:, 0], **close)
        np.testing.assert_allclose(features.array("appended"), expected[:, 19:], **close)
        np.testing.assert_allclose(features.array("patch_mean"), expected[:, 3:19].mean(1), **close)
        assert features.layout == TokenLayout(1, 2, (4, 4), intervention.appended)
    assert (arrays(workshop.folder("zero", "vit-r2"))["norms"][:, :, 1:3] == 0).all()
    described = Features.open(workshop.folder("move", "vit-r2")).index["intervention"]
    assert described["kind"] == "test_time_registers"
    assert described["neurons"] == [[0, 3], [1, 7]]
    chance = Features.open(workshop.folder("random", "vit-r2")).index["intervention"]["neurons"]
    assert [layer for layer, _ in chance] == [0, 1]
    assert chance != described["neurons"]


def test_random_neurons_are_drawn_for_each_condition(workshop):
    chance = {name: TestTimeRegisters(tokens=0, neurons="random") for name in ("one", "two")}
    workshop.run("vit", chance)
    one, two = (Features.open(workshop.folder(name)).index["intervention"]["neurons"] for name in chance)
    assert one != two


def listed(workshop, kind="ablated"):
    """The conditions that the file beside a pair's folder lists, with their checksums."""
    return read_json(workshop.features / kind / "tiny" / "vit.json")


def test_beside_a_pairs_folder_its_conditions_are_listed_with_their_digests(workshop):
    workshop.run("vit", CONDITIONS)
    digests = {name: sha256(workshop.folder(name) / "index.json") for name in CONDITIONS}
    assert listed(workshop) == {"conditions": digests}
    assert not (workshop.features / "baseline").exists()
    workshop.run("vit")
    assert listed(workshop, "baseline") == {"conditions": {"baseline": sha256(workshop.folder() / "index.json")}}
    assert listed(workshop) == {"conditions": digests}


def test_conditions_are_listed_once_all_of_them_are_whole(workshop, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(store.Writer, "finish", lambda self, index: pytest.fail("killed"))
        with pytest.raises(pytest.fail.Exception, match="killed"):
            workshop.run("vit", {"zero": CONDITIONS["zero"], "append": CONDITIONS["append"]})
    assert workshop.unfinished("zero").is_dir()
    assert not (workshop.features / "ablated" / "tiny" / "vit.json").exists()


def test_a_condition_that_does_not_apply_is_a_folder_that_says_why(workshop):
    workshop.run("vit", CONDITIONS, found=NONE)
    reasons = {}
    for name in CONDITIONS:
        features = Features.open(workshop.folder(name))
        reasons[name] = features.reason
        assert features.status == ("not applicable" if features.reason else "complete")
    assert reasons == {
        "append": "",
        "move": NONE["reason"],
        "random": NONE["reason"],
        "zero": "the model has no registers",
    }
    assert [path.name for path in workshop.folder("move").iterdir()] == ["index.json"]
    before = times(workshop.folder("move"))
    workshop.run("vit", CONDITIONS, found=NONE)
    assert times(workshop.folder("move")) == before
    workshop.run("vit", CONDITIONS)
    assert Features.open(workshop.folder("move")).status == "complete"
    workshop.run("vit", CONDITIONS, found=NONE)
    assert [path.name for path in workshop.folder("move").iterdir()] == ["index.json"]


def test_conditions_of_an_older_study_are_pruned(workshop):
    workshop.run("vit", CONDITIONS)
    workshop.run("vit", {"zero": CONDITIONS["zero"]})
    parent = workshop.features / "ablated" / "tiny" / "vit"
    assert {path.name for path in parent.iterdir()} == {"zero"}
    assert list(listed(workshop)["conditions"]) == ["zero"]


def test_a_study_without_conditions_leaves_an_empty_list(workshop):
    workshop.run("vit", {})
    assert listed(workshop) == {"conditions": {}}


# --- conditions of which no head is refitted -------------------------------------------------------------------------

FROZEN = {
    "append": Append(tokens=2),
    "patches": Ablate(tokens="patches", count=3),
    "both": Chain(of=[Ablate(tokens="cls"), TestTimeRegisters(tokens=1)]),
    "zero": Ablate(tokens="registers"),
}
KEEP = {"attention_maps": 2, "specials_layers": True, "neighbours": True, "dense_images": 7}


@pytest.mark.parametrize("more", [{}, {"projections_size": "native"}], ids=["model size", "native size"])
def test_without_training_images_what_is_passed_is_what_it_is_with_them(workshop, more):
    workshop.run("vit-r2", FROZEN, **KEEP, **more)
    whole = {name: arrays(workshop.folder(name, "vit-r2")) for name in FROZEN}
    specs = Features.open(workshop.folder("append", "vit-r2")).index["arrays"]
    shutil.rmtree(workshop.features)
    workshop.run("vit-r2", FROZEN, frozen_only=list(FROZEN), **KEEP, **more)
    for name in FROZEN:
        found = Features.open(workshop.folder(name, "vit-r2"))
        assert found.rows.tolist() == TEST
        assert found.index["frozen_only"] is True
        few = arrays(workshop.folder(name, "vit-r2"))
        assert few.keys() == whole[name].keys() | {"rows"}
        for array, values in whole[name].items():
            if specs[array]["rows"] == "all":
                np.testing.assert_allclose(few[array], values[TEST], rtol=1e-5, atol=1e-5)
            else:  # the dense images pass in the same batches
                np.testing.assert_array_equal(few[array], values)


def test_a_model_to_which_no_head_is_fitted_passes_no_training_image(workshop):
    step = workshop.step("vit", train_dense_images=3)
    step = step.model_copy(update={"extraction": step.extraction.model_copy(update={"frozen_only": ["baseline"]})})
    extract.run(step, workshop.data, workshop.root / "models/vit", workshop.features, None)
    alone = store.Features.open(workshop.folder())
    rows, kept = np.array(alone.rows), np.array(alone.array("cls"))
    assert "train_patches" not in alone.index["arrays"]
    assert set(Manifest.load(workshop.data).table["split"].iloc[rows]) == {"test"}
    workshop.run("vit")
    whole = store.Features.open(workshop.folder())
    np.testing.assert_allclose(kept, whole.array("cls")[whole.places(rows)], rtol=1e-5, atol=1e-6)


def test_manifest_rows_are_found_in_the_arrays_of_every_condition_and_those_not_passed_are_refused(workshop):
    workshop.run("vit-r2")
    workshop.run("vit-r2", {name: FROZEN[name] for name in ("append", "zero")}, frozen_only=["zero"])
    baseline, every, few = (Features.open(workshop.folder(name, "vit-r2")) for name in ("baseline", "append", "zero"))
    rows = np.array(TEST)[[4, 0, 7]]
    for features in (baseline, every):
        assert features.rows.tolist() == list(range(16))
        assert features.places(rows).tolist() == rows.tolist()
        assert "rows" not in features.index["arrays"]
        assert features.index["frozen_only"] is False
    assert few.places(rows).tolist() == [4, 0, 7]
    assert few.rows[few.places(rows)].tolist() == rows.tolist()
    assert few.array("cls").shape[0] == len(TEST) == 12
    assert few.dense_rows.tolist() == TEST[:5]
    with pytest.raises(
        InputError, match=r"2 of 3 images were not passed, the first in manifest row 0; to fit heads on it"
    ):
        few.places(np.array([3, 0, 1]))


def test_what_passes_fewer_images_is_no_matter_of_other_conditions(workshop):
    workshop.run("vit", CONDITIONS)
    before = times(workshop.features)
    workshop.run("vit", CONDITIONS, frozen_only=["append", "of-another-run"])
    changed = {path.parent.name for path, time in times(workshop.features).items() if before.get(path) != time}
    assert changed == {"append", "tiny"}  # "tiny" holds vit.json, which lists the conditions
    workshop.run("vit", CONDITIONS)
    assert Features.open(workshop.folder("append")).rows.tolist() == list(range(16))


@pytest.mark.parametrize("batches", range(4))
def test_killed_after_any_batch_without_training_images_and_resumed_gives_the_same_bytes(
    workshop, counted, batches, monkeypatch
):
    """Seven test images that are not dense and five that are, by threes: two batches each, as none is a lone image."""
    frozen = {"append": FROZEN["append"]}
    workshop.run("vit", frozen, frozen_only=["append"])
    whole = contents(workshop.features)
    shutil.rmtree(workshop.features)
    write, written = store.Writer.write, []

    def killed_in_time(self, *arguments):
        if len(written) == batches:
            raise KeyboardInterrupt
        written.append(write(self, *arguments))

    with monkeypatch.context() as patch:
        patch.setattr(store.Writer, "write", killed_in_time)
        with pytest.raises(KeyboardInterrupt):
            workshop.run("vit", frozen, frozen_only=["append"])
    written.clear()
    with monkeypatch.context() as patch:
        patch.setattr(store.Writer, "write", lambda self, *a: written.append(write(self, *a)))
        workshop.run("vit", frozen, frozen_only=["append"])
    assert len(written) == 4 - batches
    assert contents(workshop.features) == whole


def test_half_a_folder_with_training_images_is_not_completed_without_them(workshop, monkeypatch):
    write = store.Writer.write

    def killed(self, *arguments):
        write(self, *arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store.Writer, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            workshop.run("vit", {"append": FROZEN["append"]})
    workshop.run("vit", {"append": FROZEN["append"]}, frozen_only=["append"])
    assert Features.open(workshop.folder("append")).rows.tolist() == TEST


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"frozen_only": ["zero"], "dense_split": "train"}, "of split train are not passed, but dense_split is train"),
    ],
)
def test_what_needs_the_training_images_is_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        Extraction(**{**SETTINGS, **settings})


# --- refused ---------------------------------------------------------------------------------------------------------


def test_neurons_that_the_model_does_not_have_are_refused_before_any_image_is_read(workshop):
    shutil.rmtree(workshop.data / "images")
    wrong = {**NEURONS, "neurons": [[0, 3, 9.0], [2, 0, 8.0]]}
    with pytest.raises(InputError, match="model 'vit' has no neuron 0 in layer 2"):
        workshop.run("vit", {"append": CONDITIONS["append"], "move": CONDITIONS["move"]}, found=wrong)
    assert not workshop.features.exists()


def test_an_image_that_is_gone_is_named_and_the_pass_goes_on_once_it_is_back(workshop, tmp_path):
    workshop.run()
    whole = contents(workshop.features)
    shutil.rmtree(workshop.features)
    shutil.move(workshop.data / "images" / "13.png", tmp_path / "13.png")
    with pytest.raises(InputError, match=r"images/13\.png: no such image"):
        workshop.run()
    shutil.move(tmp_path / "13.png", workshop.data / "images" / "13.png")
    workshop.run()
    assert contents(workshop.features) == whole


def test_an_unknown_split_is_refused_with_those_there_are(workshop):
    with pytest.raises(InputError, match="no image in split 'validation'; its splits are test, train"):
        workshop.run(dense_split="validation")


def test_the_log_says_what_happens(workshop, caplog):
    with caplog.at_level(logging.INFO):
        workshop.run()
        workshop.run()
        workshop.run("vit", {"zero": CONDITIONS["zero"]})
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        "baseline: 16 images, 3 at a time",
        "baseline: complete already",
        "zero: not applicable, the model has no registers",
    ]


# --- calibration, and what it is for ---------------------------------------------------------------------------------


def calibration(**changes):
    settings = Calibration(**{"split": "train", "images": 3, "resample_sources": 2, **changes})
    return CalibrateConfig(
        seed=7,
        device="cpu",
        dataset="tiny",
        model="vit-r2",
        batch_size=2,
        memory_mb=500,
        precision="fp32",
        calibration=settings,
    )


def test_the_step_takes_random_images_of_the_split_and_writes_the_same_bytes_again(workshop, tmp_path):
    out = tmp_path / "c.safetensors"
    calibrate.run(calibration(), workshop.data, workshop.root / "models/vit-r2", out)
    found = activation_statistics.load(out)
    first = out.read_bytes()
    calibrate.run(calibration(), workshop.data, workshop.root / "models/vit-r2", out)
    assert out.read_bytes() == first
    train = [row for row, split in enumerate(SPLITS) if split == "train"]
    chosen = generator(7, "calibration", "tiny").permutation(np.array(train))[:3]
    tokens = workshop.blocks(chosen)  # (3, layers, t, d)
    np.testing.assert_allclose(found.mean, tokens[:, :, :3].mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.resample_sources, tokens[:2, :, :3], rtol=1e-4, atol=1e-5)


def test_of_a_smaller_split_all_images_are_taken(workshop, tmp_path):
    """As of SPair-71k, which has not the 5,000 training images that parodi2026 calibrates on, and at a first look."""
    for images, name in ((4, "all"), (5, "more")):
        calibrate.run(calibration(images=images), workshop.data, workshop.root / "models/vit-r2", tmp_path / name)
    every, more = (activation_statistics.load(tmp_path / name) for name in ("all", "more"))
    assert every == more
    assert SPLITS.count("train") == 4


def test_conditions_that_need_calibration_take_it_and_refuse_to_go_without(workshop, tmp_path):
    mean = {"mean": Ablate(tokens="registers", by="mean", at="last")}
    with pytest.raises(InputError, match="condition 'mean' replaces tokens by what calibration found; calibrate first"):
        workshop.run("vit-r2", mean)
    assert not workshop.features.exists()
    out = tmp_path / "c.safetensors"
    calibrate.run(calibration(), workshop.data, workshop.root / "models/vit-r2", out)
    workshop.run("vit-r2", mean, calibrated=out)
    found = arrays(workshop.folder("mean", "vit-r2"))["registers"]
    backbone = backbones.load(workshop.root / "models/vit-r2")
    expected = backbone.module.norm(activation_statistics.load(out).mean[-1, 1:])
    np.testing.assert_allclose(found, expected.expand(16, -1, -1), rtol=1e-4, atol=1e-5)
    index = Features.open(workshop.folder("mean", "vit-r2")).index
    assert index["intervention"]["activation_statistics"] == sha256(out)
    before = times(workshop.folder("mean", "vit-r2"))
    workshop.run("vit-r2", mean, calibrated=out)
    assert times(workshop.folder("mean", "vit-r2")) == before
    calibrate.run(calibration(images=4), workshop.data, workshop.root / "models/vit-r2", out)
    workshop.run("vit-r2", mean, calibrated=out)
    assert times(workshop.folder("mean", "vit-r2")) != before


def test_mean_values_of_sinks_are_measured_where_params_ask_for_them(workshop, tmp_path):
    mean = {"mean": EditSinkValues(to="mean", which="most_attended")}
    out, model = tmp_path / "c.safetensors", workshop.root / "models/vit-r2"
    calibrate.run(calibration(), workshop.data, model, out)
    with pytest.raises(InputError, match=r"condition .mean. needs the mean values of sinks; set calibration\.sink_val"):
        workshop.run("vit-r2", mean, calibrated=out)
    calibrate.run(calibration(sink_values=True), workshop.data, model, out)
    assert activation_statistics.load(out).sink_value.shape[:2] == (2, 2)  # blocks, heads
    workshop.run("vit-r2", mean, calibrated=out)
    assert Features.open(workshop.folder("mean", "vit-r2")).index["intervention"]["activation_statistics"] == sha256(
        out
    )


def test_draws_do_not_depend_on_the_size_of_batches(workshop):
    noisy = {
        "sinks": EditSinkValues(of="random_nonsink", which="most_attended"),
        "patches": Ablate(tokens="patches", count=3),
        "both": Chain(of=[Ablate(tokens="cls"), Append(tokens=2)]),
        "sets": TestTimeRegisters(tokens=1, neurons="random", draws="each_image"),
    }
    found = []
    for size in (1, 3, 7, 16):
        workshop.run("vit-r2", noisy, batch_size=size)
        found.append({name: arrays(workshop.folder(name, "vit-r2")) for name in noisy})
    for other in found[1:]:
        for name in noisy:
            for array, values in found[0][name].items():
                half = values.dtype == np.float16
                close = {"rtol": 2e-3, "atol": 1e-4} if half else {"rtol": 1e-5, "atol": 1e-5}
                np.testing.assert_allclose(other[name][array], values, **close)


def test_automatic_batches_are_recorded_and_change_nothing(workshop):
    workshop.run("vit-r2", batch_size="auto")
    found = Features.open(workshop.folder(model="vit-r2"))
    assert found.index["batch_size"] == 128
    automatic = arrays(workshop.folder(model="vit-r2"))
    workshop.run("vit-r2", batch_size=16)
    for name, values in arrays(workshop.folder(model="vit-r2")).items():
        np.testing.assert_array_equal(automatic[name], values)


def test_an_intervention_may_say_how_many_images_pass_at_a_time(workshop):
    """As the published code changes the first image of a batch, and is called with one: then it changes every one."""
    first = {"images": "first", "tokens": 2}
    conditions = {
        "every": TestTimeRegisters(tokens=2),
        "one": TestTimeRegisters(**first, batch=1),
        "three": TestTimeRegisters(**first, batch=3),
        "chained": Chain(of=[TestTimeRegisters(**first, batch=1), Ablate(tokens="cls")]),
        "both": Chain(of=[TestTimeRegisters(tokens=2), Ablate(tokens="cls")]),
    }
    workshop.run("vit-r2", conditions, batch_size=7)
    sizes = {name: Features.open(workshop.folder(name, "vit-r2")).index["batch_size"] for name in conditions}
    assert sizes == {"every": 7, "one": 1, "three": 3, "chained": 1, "both": 7}
    found = {name: arrays(workshop.folder(name, "vit-r2"))["patch_mean"] for name in conditions}
    np.testing.assert_allclose(found["one"], found["every"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["chained"], found["both"], rtol=1e-4, atol=1e-5)
    assert np.abs(found["three"] - found["every"]).max() > 1e-3


RESAMPLED = {"other": Ablate(tokens="registers", by="resample")}


@pytest.mark.parametrize(
    ("settings", "image"),
    [
        ({"attention_maps": 1}, "i01"),
        ({"dense_images": 1}, "i01"),
        ({"batch_size": 1}, "i00"),
        ({"projections_size": "native", "dense_images": 12}, "i14"),  # the one test image of 56 pixels in patches
    ],
)
def test_an_image_that_would_be_alone_in_its_batch_is_refused_before_any_is_read(workshop, settings, image):
    with pytest.raises(InputError, match=f"'tiny': image '{image}' is alone in its batch"):
        workshop.run("vit-r2", RESAMPLED, **settings)
    assert not list(workshop.features.rglob("*.npy"))


def test_images_that_have_company_at_their_own_size_are_resampled(workshop):
    workshop.run("vit-r2", RESAMPLED, projections_size="native", dense_images=11)
    assert Features.open(workshop.folder("other", "vit-r2")).status == "complete"


# --- projections at native size, and all that can be kept ------------------------------------------------------------


def native_by_hand(workshop, model, row):
    """Keys of the last block of one image at its own size, zero-padded, position embeddings resampled by timm."""
    backbone = backbones.load(workshop.root / "models" / model)
    table = Manifest.load(workshop.data)
    image = backbone.preprocess.normalise(torch.from_numpy(np.array(Image.open(table.file(row)))).permute(2, 0, 1))
    height, width = image.shape[1:]
    padded = torch.zeros(3, -(-height // 8) * 8, -(-width // 8) * 8)
    padded[:, :height, :width] = image
    module, seen = copy.deepcopy(backbone.module), []
    module.set_input_size(img_size=tuple(padded.shape[1:]))
    attn = module.blocks[-1].attn
    handle = attn.register_forward_pre_hook(lambda m, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        module.forward_features(padded[None])
    handle.remove()
    prefix, grid = backbone.layout.prefix, (padded.shape[1] // 8, padded.shape[2] // 8)
    with torch.inference_mode():
        keys = attn.qkv(seen[0])[0].chunk(3, dim=-1)[1]
    return keys[prefix:].reshape(*grid, -1).numpy()


@pytest.mark.parametrize("size", [1, 3, "auto"])
def test_projections_at_native_size_are_those_of_each_image_by_itself(workshop, size):
    workshop.run("vit-r2", projections_size="native", dense_images=11, batch_size=size)
    found = Features.open(workshop.folder(model="vit-r2"))
    assert found.index["arrays"]["k_01"]["rows"] == "native"
    assert found.dense_rows.tolist() == TEST[:11]
    for image, row in enumerate(TEST[:11]):
        expected = native_by_hand(workshop, "vit-r2", row)
        assert found.native("k_01", image).shape == expected.shape
        np.testing.assert_allclose(found.native("k_01", image), expected, rtol=2e-3, atol=2e-3)
    widths = {found.native("k_01", image).shape[1] for image in range(11)}
    assert len(widths) > 1


def test_native_projections_under_an_intervention_are_of_that_condition(workshop):
    workshop.run("vit-r2", {"move": CONDITIONS["move"]}, projections_size="native")
    workshop.run("vit-r2", projections_size="native")
    one, other = (Features.open(workshop.folder(name, "vit-r2")) for name in ("move", "baseline"))
    assert np.abs(one.native("k_01", 0) - other.native("k_01", 0)).max() > 1e-2
    assert not any(name.startswith("k_") and spec["rows"] == "dense" for name, spec in one.index["arrays"].items())


def test_everything_that_can_be_kept_is_kept_where_params_say(workshop):
    workshop.run(
        "vit-r2",
        specials_layers=True,
        patch_layers=[0, -1],
        attention_heads=True,
        attention_columns=True,
        attention_maps=2,
        neighbours=True,
        projections={"q": [0], "v": [1]},
    )
    found = Features.open(workshop.folder(model="vit-r2"))
    shapes = {name: tuple(spec["shape"]) for name, spec in found.index["arrays"].items()}
    assert shapes["specials"] == (2, 3, 16)
    assert shapes["patches_00"] == shapes["patches_01"] == (16, 16)
    assert shapes["attention_heads"] == (2, 2, 3, 19)
    assert shapes["attention_columns"] == (2, 19, 3)
    assert found.array("attention_maps").shape == (2, 2, 2, 19, 19)
    assert {"q_00", "v_01"} <= shapes.keys()
    assert "k_01" not in shapes
    maps = np.asarray(found.array("attention_maps"), dtype=np.float32)
    np.testing.assert_allclose(maps.sum(-1), 1.0, atol=2e-3)
    np.testing.assert_allclose(maps[:, :, :, [0, 1, 2]], found.array("attention_heads")[:2], atol=1e-3)
    assert found.array("specials").shape == (16, 2, 3, 16)


@pytest.mark.parametrize(("maps", "sinks"), [(0, 3), (2, 3), (3, 2), (2, 2), (0, 9)])
def test_sinks_are_looked_for_in_the_first_dense_images_whatever_maps_are_kept(workshop, maps, sinks):
    workshop.run("vit-r2", dense_images=5, attention_maps=0)
    before = arrays(workshop.folder(model="vit-r2"))
    workshop.run("vit-r2", dense_images=5, attention_maps=maps, sink_images=sinks)
    found = arrays(workshop.folder(model="vit-r2"))
    assert found["sink_shares"].shape == (min(sinks, 5), 2, 3)
    assert ("attention_maps" in found) == (maps > 0)
    for name in before:  # batches are others, so rounding is, too
        np.testing.assert_allclose(found[name].astype(float), before[name].astype(float), rtol=1e-2, atol=1e-4)
    both = min(maps, sinks)
    if both:
        shares = found["attention_maps"].astype(float).mean((2, 3)).max(2)
        np.testing.assert_allclose(found["sink_shares"][:both, :, 0], shares[:both], atol=1e-3)


@pytest.mark.parametrize(("count", "expected"), [(2, [0, 13]), (3, [0, 3, 13]), (100, [0, 3, 13, 15]), (0, None)])
def test_patches_of_training_images_are_those_of_the_model_spread_over_the_split(workshop, count, expected):
    workshop.run("vit-r2", train_dense_images=count)
    features = Features.open(workshop.folder(model="vit-r2"))
    if expected is None:
        assert not [name for name in features.index["arrays"] if name.startswith("train")]
        return
    assert features.array("train_rows").tolist() == expected
    tokens = workshop.tokens("vit-r2")
    np.testing.assert_allclose(features.array("train_patches"), tokens[expected, 3:], rtol=1e-3, atol=1e-3)
    norms = np.linalg.norm(workshop.blocks(expected), axis=-1)
    np.testing.assert_allclose(features.array("train_norms"), norms, rtol=1e-4)
    np.testing.assert_allclose(features.array("cls"), tokens[:, 0], rtol=1e-4, atol=1e-5)  # of all images, as ever
    assert features.dense_rows.tolist() == TEST[:5]


def test_under_an_intervention_no_patches_of_training_images_are_kept(workshop):
    workshop.run("vit-r2", {"zero": CONDITIONS["zero"]}, train_dense_images=3)
    assert "train_patches" not in Features.open(workshop.folder("zero", "vit-r2")).index["arrays"]


def test_probes_cannot_be_trained_on_the_images_that_test_them():
    with pytest.raises(ValidationError, match="train_dense_images: probes must not be trained on what tests them"):
        Extraction(**{**SETTINGS, "dense_split": "train", "train_dense_images": 1})


# --- second views ----------------------------------------------------------------------------------------------------

VIEWS = {"pairs": 3, "patch_layers": [0, -1]}


def seen(workshop, row, model="vit-r2", intervention=None):
    """Patches of a second view after the final norm, and leaving every block, passed alone."""
    backbone, found = backbones.load(workshop.root / "models" / model), []
    number = int(Manifest.load(workshop.data).numbers_of_views(np.array([row]))[0])
    pixels = backbone.preprocess(Image.open(workshop.data / f"views/{row:02d}.png"))
    with applied(backbone, intervention) as layout, torch.inference_mode():
        handles = [block.register_forward_hook(lambda m, i, o: found.append(o)) for block in backbone.blocks]
        announce_rows([number])
        final = backbone.module.forward_features(pixels[None])
        for handle in handles:
            handle.remove()
    return [tokens[0, layout.patch_slice].numpy() for tokens in (final, *found)]


@pytest.mark.parametrize("size", [1, 2, 5])
def test_second_views_of_the_first_dense_images_pass_as_images_of_their_own(viewed, size):
    viewed.run("vit-r2", batch_size=size, **VIEWS)
    found = Features.open(viewed.folder(model="vit-r2"))
    assert found.array("pair_rows").tolist() == [2, 4, 6]  # of the dense ones, 1 2 4 5 6, those that have a view
    assert {spec["rows"] for name, spec in found.index["arrays"].items() if name.startswith("pair")} == {"pairs"}
    for place, row in enumerate([2, 4, 6]):
        final, first, last = seen(viewed, row)
        np.testing.assert_allclose(found.array("pair_patches")[place], final, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(found.array("pair_patches_00")[place], first, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(found.array("pair_patches_01")[place], last, rtol=1e-4, atol=1e-4)
    viewed.run("vit", batch_size=size)
    viewed.run("vit", batch_size=size, pairs=2)
    assert Features.open(viewed.folder()).array("pair_rows").tolist() == [2, 4]


def test_what_is_kept_of_images_does_not_depend_on_second_views(viewed):
    viewed.run("vit-r2")
    without = arrays(viewed.folder(model="vit-r2"))
    key = read_json(viewed.folder(model="vit-r2") / "index.json")["key"]
    viewed.run("vit-r2", pairs=3)
    found = arrays(viewed.folder(model="vit-r2"))
    assert read_json(viewed.folder(model="vit-r2") / "index.json")["key"] != key
    assert found.keys() - without.keys() == {"pair_patches", "pair_rows"}
    for name, array in without.items():
        np.testing.assert_array_equal(found[name], array)


def test_interventions_hold_for_second_views_with_draws_of_their_own(viewed):
    drawn = {"some": Ablate(tokens="patches", count=3), "move": TestTimeRegisters(tokens=1)}
    viewed.run("vit-r2", drawn, **VIEWS)
    shared = viewed.data / "views/02.png"
    shutil.copy(viewed.data / "images/02.png", shared)  # a view that is its image
    for name in drawn:
        known = Known(NEURONS, None, (0, "tiny", "vit-r2", name))
        resolved = drawn[name].resolve(backbones.load(viewed.root / "models/vit-r2"), known)
        found = Features.open(viewed.folder(name, "vit-r2"))
        np.testing.assert_allclose(
            found.array("pair_patches")[1], seen(viewed, 4, "vit-r2", resolved)[0], rtol=2e-3, atol=2e-3
        )
    shutil.rmtree(viewed.features)
    viewed.run("vit-r2", drawn, **VIEWS)
    found = Features.open(viewed.folder("some", "vit-r2"))
    zeroed = [(found.array("pair_patches_01")[0] == 0).all(1), (found.array("patches_01")[1] == 0).all(1)]
    assert [where.sum() for where in zeroed] == [3, 3]
    assert (zeroed[0] != zeroed[1]).any()  # which patches are zeroed is drawn anew for the view
    moved = Features.open(viewed.folder("move", "vit-r2"))
    np.testing.assert_allclose(moved.array("pair_patches")[0], moved.array("patches")[1], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("batches", [7, 8, 9, 10])  # five of whole images, three of dense ones, two of second views
def test_killed_among_second_views_and_resumed_gives_the_same_bytes(viewed, counted, batches, monkeypatch):
    settings = {"pairs": 4, "batch_size": 2, "dense_images": 6}
    viewed.run(**settings)
    whole = contents(viewed.features)
    shutil.rmtree(viewed.features)
    write, written = store.Writer.write, []

    def killed_in_time(self, *arguments):
        if len(written) == batches:
            raise KeyboardInterrupt
        written.append(write(self, *arguments))

    with monkeypatch.context() as patch:
        patch.setattr(store.Writer, "write", killed_in_time)
        patch.setattr(store.Writer, "finish", lambda self, *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            viewed.run(**settings)
    partial = viewed.unfinished().with_name("baseline.partial")
    assert read_json(partial / "progress.json")["done"] == len(written) == batches
    viewed.run(**settings)
    assert contents(viewed.features) == whole


def test_a_data_set_without_second_views_has_none_to_pass(workshop):
    workshop.run(pairs=5)
    found = Features.open(workshop.folder())
    assert found.status == "complete"
    assert not [name for name in found.index["arrays"] if name.startswith("pair")]


def test_a_second_view_that_is_gone_is_named(viewed):
    (viewed.data / "views/04.png").unlink()
    with pytest.raises(InputError, match=r"views/04\.png: no such image") as refused:
        viewed.run(pairs=3)
    assert "\n" not in str(refused.value)


def test_a_lone_second_view_cannot_be_resampled_from_another(viewed):
    with pytest.raises(InputError, match="'tiny': image 'i02' is alone in its batch"):
        viewed.run("vit-r2", RESAMPLED, pairs=1)
    viewed.run("vit-r2", RESAMPLED, pairs=2)


def test_progress_counts_second_views(viewed, monkeypatch):
    bars = []

    class Bar:
        def __init__(self, total, **look):
            bars.append(self)
            self.total, self.done = total, 0

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def update(self, count):
            self.done += count

    monkeypatch.setattr(extract, "tqdm", Bar)
    viewed.run(pairs=3)
    (bar,) = bars
    assert bar.total == bar.done == 16 + 3
