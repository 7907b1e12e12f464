import json
import subprocess
import sys
import zlib
from types import SimpleNamespace

import numpy as np
import pytest

from vit_registers.core.errors import InputError
from vit_registers.core.files import sha256
from vit_registers.extraction import store
from vit_registers.extraction.store import Features, Spec, Writer
from vit_registers.models.layout import TokenLayout

SPECS = {
    "cls": Spec((3,), "float32", "all", "channels", "[CLS]"),
    "norms": Spec((2, 4), "float16", "dense", "L2 norm", "layer, token"),
    "dense_rows": Spec((), "int64", "dense", "row", "manifest rows"),
}
COUNTS = {"all": 7, "dense": 4}
# Rows of "all" and of "dense", which are rows 1, 2, 5 and 6 of all; in no particular order.
BATCHES = [([4, 0], None), ([3], None), ([6, 1, 2], [3, 0, 1]), ([5], [2])]
INDEX = {"model": "vit", "layout": TokenLayout(1, 0, (2, 2)).to_json()}


pytestmark = pytest.mark.usefixtures("counted")


def values(number):
    draw = np.random.default_rng(number)
    everything, dense = BATCHES[number]
    arrays = {"cls": draw.normal(size=(len(everything), 3)).astype(np.float32)}
    if dense is not None:
        arrays["norms"] = draw.normal(size=(len(dense), 2, 4))
        arrays["dense_rows"] = np.array(everything)
    return arrays


def write(writer, stop=4):
    """Batches that are not done yet, up to ``stop``."""
    for number in range(writer.done, stop):
        everything, dense = BATCHES[number]
        writer.write(values(number), {"all": np.array(everything), "dense": np.array(dense or [], dtype=int)})


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture
def whole(tmp_path):
    """A folder that was written without interruption."""
    writer = Writer(tmp_path / "whole", "k", SPECS, COUNTS)
    write(writer)
    writer.finish(INDEX)
    return tmp_path / "whole"


def test_rows_stand_in_the_order_of_the_manifest(whole):
    features = Features.open(whole)
    for number, (everything, dense) in enumerate(BATCHES):
        np.testing.assert_array_equal(features.array("cls")[everything], values(number)["cls"])
        if dense:
            np.testing.assert_array_equal(features.array("norms")[dense], values(number)["norms"].astype(np.float16))
    np.testing.assert_array_equal(features.dense_rows, [1, 2, 5, 6])
    np.testing.assert_array_equal(features.rows, range(7))
    assert features.status == "complete"
    assert features.reason == ""
    assert features.layout == TokenLayout(1, 0, (2, 2))


def test_arrays_are_mapped_and_cannot_be_written_to(whole):
    array = Features.open(whole).array("cls")
    assert isinstance(array, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 0.0


def test_the_index_says_what_every_array_is_and_nothing_but_it_and_arrays_is_left(whole):
    index = json.loads((whole / "index.json").read_text())
    assert index["model"] == "vit"
    assert index["key"] == "k"
    assert index["arrays"]["norms"] == {
        "shape": [2, 4],
        "dtype": "float16",
        "rows": "dense",
        "unit": "L2 norm",
        "what": "layer, token",
        "crc32": zlib.crc32((whole / "norms.npy").read_bytes()),
    }
    for name, described in index["arrays"].items():
        array = np.load(whole / f"{name}.npy")
        assert array.shape == (COUNTS[described["rows"]], *described["shape"])
        assert array.dtype == described["dtype"]
    assert set(contents(whole)) == {"index.json", "cls.npy", "norms.npy", "dense_rows.npy"}
    assert [path.name for path in whole.parent.iterdir()] == ["whole"]


def test_an_array_without_columns_can_be_kept(tmp_path):
    """A model without [CLS] and registers has attention rows of none."""
    writer = Writer(tmp_path / "a", "k", {"attention": Spec((2, 0, 4), "float16", "all", "share", "rows")}, {"all": 3})
    writer.write({"attention": np.zeros((3, 2, 0, 4))}, {"all": np.arange(3)})
    writer.finish(INDEX)
    assert Features.open(tmp_path / "a").array("attention").shape == (3, 2, 0, 4)


def test_rows_of_images_that_did_not_all_pass_are_named(tmp_path):
    specs = {"cls": SPECS["cls"], "rows": Spec((), "int64", "all", "row", "manifest rows")}
    writer = Writer(tmp_path / "a", "k", specs, {"all": 3})
    writer.write({"cls": np.zeros((3, 3)), "rows": np.array([2, 5, 9])}, {"all": np.arange(3)})
    writer.finish(INDEX)
    features = Features.open(tmp_path / "a")
    assert features.rows.tolist() == [2, 5, 9]
    assert features.places(np.array([9, 2])).tolist() == [2, 0]
    with pytest.raises(
        InputError, match="1 of 2 images were not passed, the first in manifest row 3; to fit heads on it"
    ):
        features.places(np.array([2, 3]))


def test_a_folder_without_a_row_per_image_has_no_rows(tmp_path):
    writer = Writer(tmp_path / "a", "k", {"norms": SPECS["norms"]}, {"dense": 0})
    writer.finish(INDEX)
    with pytest.raises(InputError, match="holds no array with a row per image; it has norms"):
        Features.open(tmp_path / "a").rows  # noqa: B018


# --- interrupted -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batches", range(len(BATCHES) + 1))
def test_killed_after_any_batch_and_resumed_gives_the_same_bytes(whole, batches, tmp_path):
    folder = tmp_path / "resumed"
    write(Writer(folder, "k", SPECS, COUNTS), stop=batches)
    assert not folder.exists()
    assert not store.is_complete(folder, "k")
    writer = Writer(folder, "k", SPECS, COUNTS)
    assert writer.done == batches
    write(writer)
    writer.finish(INDEX)
    assert contents(folder) == contents(whole)


class Cut(dict):
    """Arrays of a batch that are wrong, of which ``count`` are handed out before the process dies."""

    def __init__(self, arrays, count):
        super().__init__(arrays)
        self.count = count

    def items(self):
        for name in list(self)[: self.count]:
            yield name, self[name] + 1
        raise KeyboardInterrupt


@pytest.mark.parametrize("batch", range(len(BATCHES)))
@pytest.mark.parametrize("count", range(len(SPECS) + 1))
def test_killed_within_any_batch_and_resumed_gives_the_same_bytes(whole, batch, count, tmp_path):
    folder = tmp_path / "resumed"
    writer = Writer(folder, "k", SPECS, COUNTS)
    write(writer, stop=batch)
    everything, dense = BATCHES[batch]
    with pytest.raises(KeyboardInterrupt):
        writer.write(Cut(values(batch), count), {"all": np.array(everything), "dense": np.array(dense or [], int)})
    writer = Writer(folder, "k", SPECS, COUNTS)
    assert writer.done == batch
    write(writer)
    writer.finish(INDEX)
    assert contents(folder) == contents(whole)


@pytest.mark.parametrize("name", ["cls.npy", "norms.npy", "dense_rows.npy", "progress.json"])
def test_killed_while_the_arrays_are_made_starts_again(whole, name, tmp_path, monkeypatch):
    folder = tmp_path / "resumed"

    def killed(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if name == "progress.json":
            patch.setattr(store, "write_json", killed)
        else:
            path = Writer._path
            patch.setattr(Writer, "_path", lambda self, n: killed() if f"{n}.npy" == name else path(self, n))
        with pytest.raises(KeyboardInterrupt):
            Writer(folder, "k", SPECS, COUNTS)
    assert (tmp_path / "resumed.partial").is_dir()
    writer = Writer(folder, "k", SPECS, COUNTS)
    assert writer.done == 0
    write(writer)
    writer.finish(INDEX)
    assert contents(folder) == contents(whole)


@pytest.mark.parametrize("step", ["write_json", "rmtree", "replace"])
def test_killed_while_it_is_finished_leaves_nothing_half(whole, step, tmp_path, monkeypatch):
    """Also over a folder of an older study, which counts until the new one is whole or not at all."""
    folder = tmp_path / "resumed"
    old = Writer(folder, "older", SPECS, COUNTS)
    write(old)
    old.finish(INDEX)
    writer = Writer(folder, "k", SPECS, COUNTS)
    write(writer)

    module = {"write_json": store, "rmtree": store.shutil, "replace": store.os}[step]
    original = getattr(module, step)

    def killed(*arguments, **options):
        if step == "replace" and arguments[1] != folder:
            return original(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, step, killed)
        with pytest.raises(KeyboardInterrupt):
            writer.finish(INDEX)
    assert not store.is_complete(folder, "k")
    assert store.is_complete(folder, "older") == (step != "replace")
    writer = Writer(folder, "k", SPECS, COUNTS)
    write(writer)
    writer.finish(INDEX)
    assert contents(folder) == contents(whole)
    assert store.is_complete(folder, "k")
    assert {path.name for path in tmp_path.iterdir()} == {"whole", "resumed"}


@pytest.mark.slow
def test_killed_before_any_line_and_resumed_gives_the_same_bytes(whole, killed_before_line, tmp_path):
    """A real SIGKILL, at every fifth line of all that is run, over a folder of an older study."""

    def study(folder):
        writer = Writer(folder, "k", SPECS, COUNTS)
        write(writer)
        writer.finish(INDEX)

    states, number, alive = set(), 0, False
    while not alive:
        folder = tmp_path / str(number) / "resumed"
        older = Writer(folder, "older", SPECS, COUNTS)
        write(older)
        older.finish(INDEX)
        alive = not killed_before_line(lambda folder=folder: study(folder), number)
        partial, progress = folder.with_name("resumed.partial"), folder.with_name("resumed.partial") / "progress.json"
        done = json.loads(progress.read_text())["done"] if progress.is_file() else None
        states.add((folder.exists(), partial.exists(), done))
        if folder.exists():  # one study's or the other's, never part of each
            assert contents(folder).keys() == contents(whole).keys()
            assert json.loads((folder / "index.json").read_text())["key"] in ("older", "k")
        if not store.is_complete(folder, "k"):
            study(folder)
        assert contents(folder) == contents(whole), number
        assert not partial.exists()
        number += 5
    assert {done for _, _, done in states} == {None, 0, 1, 2, 3, 4}
    assert {(True, False, None), (True, True, 2), (True, True, None)} <= states
    assert number > 100


WORKER = """
import sys, time
import numpy as np
from pathlib import Path
from vit_registers.extraction import store
from vit_registers.extraction.store import Spec, Writer

store.RECORD_SECONDS = 0.0
hang = int(sys.argv[2])

class Slow(dict):
    def items(self):
        yield "a", self["a"]
        print("half a batch", flush=True)
        time.sleep(600)

writer = Writer(Path(sys.argv[1]), "k", {n: Spec((50,), "float32", "all", "", "") for n in "ab"}, {"all": 40})
for batch in range(writer.done, 4):
    rows = np.arange(10 * batch, 10 * batch + 10)
    values = {n: np.random.default_rng([batch, ord(n)]).normal(size=(10, 50)) for n in "ab"}
    writer.write(Slow(values) if batch == hang else values, {"all": rows})
writer.finish({})
print("done", "torch" in sys.modules, flush=True)
"""


def test_a_process_that_is_killed_midway_is_resumed_by_the_next(tmp_path):
    def start(name, hang):
        command = [sys.executable, "-c", WORKER, str(tmp_path / name), str(hang)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    process = start("killed", 2)
    assert process.stdout.readline() == "half a batch\n"
    process.kill()
    assert process.wait() == -9
    process.stdout.close()
    assert not (tmp_path / "killed").exists()
    assert json.loads((tmp_path / "killed.partial" / "progress.json").read_text()) == {"key": "k", "done": 2}
    for name in ("killed", "whole"):
        assert start(name, -1).communicate(timeout=60)[0] == "done False\n"  # nothing here needs torch
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    assert {path.name for path in tmp_path.iterdir()} == {"killed", "whole"}


# --- counted from time to time ---------------------------------------------------------------------------------------


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self, monkeypatch, every):
        self.now = 100.0
        monkeypatch.setattr(store, "RECORD_SECONDS", every)
        monkeypatch.setattr(store, "time", SimpleNamespace(monotonic=lambda: self.now))


def recorded(folder):
    return json.loads((folder.with_name(f"{folder.name}.partial") / "progress.json").read_text())["done"]


def test_batches_are_counted_when_some_time_has_passed_and_never_before_they_are_on_disk(whole, tmp_path, monkeypatch):
    clock, folder, events = Clock(monkeypatch, 10.0), tmp_path / "resumed", []
    flush, count = np.memmap.flush, Writer._count
    monkeypatch.setattr(np.memmap, "flush", lambda self: events.append("flush") or flush(self))
    monkeypatch.setattr(Writer, "_count", lambda self: events.append("count") or count(self))
    writer = Writer(folder, "k", SPECS, COUNTS)
    events.clear()
    seen = []
    for batch, seconds in enumerate((4.0, 5.9, 0.1, 9.9), start=1):
        clock.now += seconds
        write(writer, stop=batch)
        seen.append(recorded(folder))
    assert seen == [0, 0, 3, 3]
    assert events == ["flush"] * len(SPECS) + ["count"]
    writer.finish(INDEX)
    assert contents(folder) == contents(whole)


@pytest.mark.parametrize("batches", range(len(BATCHES) + 1))
@pytest.mark.parametrize("every", [0.0, 10.0, 1e9])
def test_killed_whenever_batches_were_counted_and_resumed_gives_the_same_bytes(
    whole, batches, every, tmp_path, monkeypatch
):
    clock, folder = Clock(monkeypatch, every), tmp_path / "resumed"
    writer = Writer(folder, "k", SPECS, COUNTS)
    for batch in range(batches):
        clock.now += 6.0
        write(writer, stop=batch + 1)
    expected = {0.0: batches, 10.0: batches - batches % 2, 1e9: 0}[every]
    writer = Writer(folder, "k", SPECS, COUNTS)
    assert writer.done == recorded(folder) == expected
    write(writer)
    writer.finish(INDEX)
    assert contents(folder) == contents(whole)


def test_what_another_key_began_is_begun_anew(whole, tmp_path):
    folder = tmp_path / "resumed"
    write(Writer(folder, "another", SPECS, COUNTS), stop=2)
    writer = Writer(folder, "k", SPECS, COUNTS)
    assert writer.done == 0
    assert not writer.arrays["cls"].any()
    write(writer)
    writer.finish(INDEX)
    assert contents(folder) == contents(whole)


# --- complete, or not ------------------------------------------------------------------------------------------------


def test_complete_is_under_the_same_key_and_with_every_array(whole):
    assert store.is_complete(whole, "k")
    assert not store.is_complete(whole, "another")
    assert not store.is_complete(whole.parent / "nothing", "k")
    (whole / "norms.npy").unlink()
    assert not store.is_complete(whole, "k")


def test_a_folder_that_lacks_an_array_is_refused_with_what_to_do(whole):
    (whole / "norms.npy").unlink()
    with pytest.raises(InputError, match=r"norms\.npy: missing; delete .*\.json and run again"):
        Features.open(whole)


def test_a_folder_that_is_not_finished_is_refused(tmp_path):
    write(Writer(tmp_path / "a", "k", SPECS, COUNTS))
    with pytest.raises(InputError, match=r"index\.json: no such file"):
        Features.open(tmp_path / "a")
    with pytest.raises(InputError, match=r"index\.json: no such file"):
        Features.open(tmp_path / "a.partial")


def test_an_array_that_was_not_kept_is_refused_by_name(whole):
    with pytest.raises(InputError, match="holds no array 'keys_00'; it has cls, dense_rows, norms"):
        Features.open(whole).array("keys_00")


def test_a_condition_that_does_not_apply_says_why_and_has_no_arrays(whole):
    store.write_not_applicable(whole, "n", "the model has no registers")
    assert [path.name for path in whole.iterdir()] == ["index.json"]
    features = Features.open(whole)
    assert (features.status, features.reason) == ("not applicable", "the model has no registers")
    assert store.is_complete(whole, "n")
    assert not store.is_complete(whole, "k")


def test_what_was_made_is_delivered_with_a_list_and_nothing_is_left_beside(whole, tmp_path):
    root = tmp_path / "features"
    unfinished = store.unfinished_folder(root, "shapes", "vit", True)
    for name, key in (("kept", "1"), ("older", "2")):
        store.write_not_applicable(store.condition_folder(root, "shapes", "vit", name), key, "no registers")
    store.write_not_applicable(unfinished / store.WHOLE / "new", "3", "no neurons")
    (unfinished / "1-of-2" / "new").mkdir(parents=True)
    store.deliver(root, "shapes", "vit", ["kept", "new"], True)
    places = {name: store.condition_folder(root, "shapes", "vit", name) for name in ("kept", "new")}
    assert [path.name for path in sorted((root / "ablated/shapes/vit").iterdir())] == ["kept", "new"]
    assert Features.open(places["new"]).reason == "no neurons"
    listed = json.loads((root / "ablated/shapes/vit.json").read_text())
    assert listed == {"conditions": {name: sha256(path / "index.json") for name, path in places.items()}}
    assert list(unfinished.iterdir()) == []


def test_links_are_made_of_what_is_complete_under_the_same_key_alone(whole, tmp_path, monkeypatch):
    to = tmp_path / "linked"
    (whole / ".snakemake_timestamp").touch()
    assert not store.linked(whole, to, "another")
    assert not to.exists()
    with monkeypatch.context() as patch:
        patch.setattr(store.os, "link", lambda *arguments: (_ for _ in ()).throw(OSError))
        assert not store.linked(whole, to, "k")
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]
    assert store.linked(whole, to, "k")
    (whole / ".snakemake_timestamp").unlink()
    assert contents(to) == contents(whole)
    assert (to / "cls.npy").samefile(whole / "cls.npy")
    (whole / "index.json").unlink()
    assert store.linked(whole, to, "k")


def test_pruning_leaves_the_conditions_of_the_study_and_plain_files(tmp_path):
    for name in ("keep", "keep too", "old", "old.partial", "keep.partial"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cls.npy").touch()
    (tmp_path / "note.txt").touch()
    store.prune(tmp_path, ["keep", "keep too"])
    assert {path.name for path in tmp_path.iterdir()} == {"keep", "keep too", "note.txt"}
    store.prune(tmp_path / "nothing", [])


@pytest.mark.parametrize(
    ("condition", "expected"),
    [("baseline", "baseline/shapes/vit"), ("move", "ablated/shapes/vit/move")],
)
def test_baselines_and_ablations_are_folders_apart(tmp_path, condition, expected):
    assert store.condition_folder(tmp_path, "shapes", "vit", condition) == tmp_path / expected


# --- damaged ----------------------------------------------------------------------------------------------------------


def flip(path):
    whole = bytearray(path.read_bytes())
    whole[-1] ^= 1
    path.write_bytes(whole)


@pytest.mark.parametrize("damage", [flip, lambda p: p.write_bytes(p.read_bytes()[:-2]), lambda p: p.write_bytes(b"")])
def test_bytes_that_are_not_those_written_are_found_and_made_again(whole, damage):
    assert Features.open(whole).array("norms").any()
    damage(whole / "norms.npy")
    with pytest.raises(InputError, match=r"norms\.npy: not .*delete .*\.json and run again"):
        Features.open(whole).array("norms")
    assert not store.is_complete(whole, "k")
