"""What the pipeline itself wrote, damaged: whoever reads it next says which file it is and what makes it again."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from vit_registers.core import seals

DATA, RESULTS = "data/prepared/tiny/shapes", "results/tiny"
BASELINE = f"{RESULTS}/features/baseline/shapes/vit-r0"
PAIR = ("--dataset", "shapes", "--model", "vit-r0")
EXTRACT, ABLATE = ("extract", *PAIR), ("ablate", *PAIR)
DETECT, DISCOVER = ("detect", *PAIR), ("object-discovery", *PAIR)
NEURONS, EMERGENCE = ("register-neurons", "--model", "vit-r0"), ("emergence", "--model", "vit-r0")
ROWS = f"{RESULTS}/measures/object_discovery/shapes/vit-r0/rows.csv"
Damage = Callable[[Path], Any]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def zeroed(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def flipped(path: Path) -> None:
    """One bit of the last byte."""
    whole = bytearray(path.read_bytes())
    whole[-1] ^= 1
    path.write_bytes(whole)


def garbage(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 8)


def braces(path: Path) -> None:
    path.write_text("{}")


def gone(path: Path) -> None:
    path.unlink()


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def other_shape(path: Path) -> None:
    np.save(path, np.zeros((1, 2), np.float32))


def pickled(path: Path) -> None:
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)


def last_row(path: Path) -> None:
    """Cut at the end of a row: what is left is a whole table."""
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def number(path: Path) -> None:
    """One number edited by hand."""
    table = pd.read_csv(path)
    table.loc[0, "value"] = 0.123
    table.to_csv(path, index=False)


WAYS: dict[str, Damage] = {f.__name__: f for f in (cut, empty, zeroed, flipped, garbage, gone, folder, pipe)}
# A file, who reads it, and how it is damaged: whatever it is, the file is named.
READ: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "dataset.json": (f"{DATA}/dataset.json", EXTRACT, ("cut", "empty", "garbage", "gone", "folder", "pipe")),
    "manifest": (f"{DATA}/manifest.parquet", DETECT, ("cut", "empty", "zeroed", "flipped", "gone", "folder")),
    "model.json": (f"{RESULTS}/models/vit-r0/model.json", EXTRACT, ("cut", "empty", "garbage", "gone", "pipe")),
    "weights": (f"{RESULTS}/models/vit-r0/model.safetensors", EXTRACT, ("cut", "zeroed", "flipped", "gone", "folder")),
    "array": (f"{BASELINE}/norms.npy", DISCOVER, ("gone", "folder", "pipe")),
    "keys": (f"{BASELINE}/k_01.npy", DISCOVER, ("cut", "empty", "zeroed", "flipped", "garbage")),
    "index": (f"{BASELINE}/index.json", DISCOVER, ("cut", "empty", "garbage", "gone")),
    "statistics": (f"{RESULTS}/features/ablated/shapes/vit-r0.safetensors", ABLATE, ("cut", "empty", "flipped", "gone")),
    "found": (f"{RESULTS}/registers/shapes/vit-r0.json", ABLATE, ("cut", "empty", "garbage", "gone")),
    "ranking": (f"{RESULTS}/registers/shapes/vit-r0.neurons.csv", NEURONS, ("empty", "garbage", "gone", "flipped")),
    "curve": (f"{RESULTS}/models/vit-r0/training.csv", EMERGENCE, ("cut", "empty", "garbage", "gone")),
    "norms": (f"{RESULTS}/models/vit-r0/norms.csv", EMERGENCE, ("cut", "empty", "gone")),
    "attention": (f"{RESULTS}/models/vit-r0/attention.npz", EMERGENCE, ("cut", "empty", "garbage", "gone")),
    "time": (f"{RESULTS}/models/vit-r0/time.json", ("training-energy",), ("cut", "empty", "garbage", "gone")),
    "rows": (ROWS, ("collect", "object_discovery"), ("cut", "empty", "garbage", "flipped", "gone", "folder")),
    "collected": (f"{RESULTS}/rows/object_discovery.csv", ("table", "lost_corloc"), ("cut", "empty", "garbage", "gone")),
    "arrays": (f"{RESULTS}/measures/object_discovery/shapes/vit-r0/arrays.npz", ("figure", "lost_steps"), ("cut", "empty", "garbage", "gone")),
}  # fmt: skip
CASES = {f"A10-{name}-{way}": (path, reader, way) for name, (path, reader, ways) in READ.items() for way in ways}


@pytest.mark.parametrize(("path", "reader", "way"), CASES.values(), ids=CASES)
def test_a_damaged_artefact_is_named(command, study, path, reader, way):
    name = path.replace("k_01", sorted((study / BASELINE).glob("k*.npy"))[0].stem)
    WAYS[way](study / name)
    command(*reader, "--params", "params.json").refused(name.rpartition("/")[2].replace(".", r"\."))


# The same, without the checksums beside files: what is in them is distrusted as well.
UNSEALED: dict[str, tuple[str, tuple[str, ...], Damage, str]] = {
    "dataset-braces": (f"{DATA}/dataset.json", EXTRACT, braces, "lacks 'name'; run `vit-registers prepare --dataset shapes` again"),
    "dataset-list": (f"{DATA}/dataset.json", EXTRACT, lambda p: p.write_text("[]"), "expected an object with 'name'"),
    "model-braces": (f"{RESULTS}/models/vit-r0/model.json", EXTRACT, braces, "lacks 'name'; delete it and make the model again"),
    "index-braces": (f"{BASELINE}/index.json", DISCOVER, braces, "lacks 'status'; delete it and run again"),
    "array-other": (f"{BASELINE}/dense_rows.npy", DISCOVER, other_shape, "a row where the index has .*; delete .*/vit-r0.json and run"),
    "array-pickled": (f"{BASELINE}/dense_rows.npy", DISCOVER, pickled, "dense_rows.npy: not an array of NumPy"),
    "array-flipped": (f"{BASELINE}/dense_rows.npy", DISCOVER, flipped, "not as it was written .*; delete .*/vit-r0.json and run"),
    "time-braces": (f"{RESULTS}/models/vit-r0/time.json", ("training-energy",), braces, "time.json: lacks 'seconds'"),
    "ranking-columns": (f"{RESULTS}/registers/shapes/vit-r0.neurons.csv", NEURONS, lambda p: p.write_text("a,b\n1,2\n"), "no column 'rank'"),
    "curve-columns": (f"{RESULTS}/models/vit-r0/training.csv", EMERGENCE, lambda p: p.write_text("a\n1\n"), "no column 'loss'.*; train the model"),
    "attention-pickled": (f"{RESULTS}/models/vit-r0/attention.npz", EMERGENCE, lambda p: np.savez(p, a=np.array([{}], dtype=object)), "attention.npz: not arrays of NumPy"),
    "rows-empty": (ROWS, ("collect", "object_discovery"), empty, "rows.csv: not a tidy table"),
    "rows-garbage": (ROWS, ("collect", "object_discovery"), garbage, "rows.csv: not a tidy table"),
    "rows-foreign": (ROWS, ("collect", "object_discovery"), lambda p: p.write_text("a,b\n1,2\n"), "column 'a' is no axis"),
    "rows-no-value": (ROWS, ("collect", "object_discovery"), lambda p: p.write_text("metric\ncorloc\n"), "no column 'value'"),
    "rows-text": (ROWS, ("collect", "object_discovery"), lambda p: p.write_text(p.read_text().replace(",share,", ",share,", 1).replace(",40,", ",forty,").replace(",20,", ",twenty,")), "rows.csv: not a tidy table"),
    "rows-twice": (ROWS, ("collect", "object_discovery"), lambda p: p.write_text(p.read_text() + p.read_text().splitlines()[-1] + "\n"), "has the axes of another"),
    "rows-nameless": (ROWS, ("collect", "object_discovery"), lambda p: pd.read_csv(p).assign(metric=None).to_csv(p, index=False), "row 1 is of no metric"),
    "params-cut": ("params.json", ("plan",), cut, "params.json: line .*not valid JSON"),
}  # fmt: skip


@pytest.mark.parametrize(("path", "reader", "damage", "said"), UNSEALED.values(), ids=UNSEALED)
def test_what_is_in_an_artefact_is_distrusted_as_well(command, study, path, reader, damage, said):
    damage(study / path)
    seals.lift([study / path])
    command(*reader, "--params", "params.json").refused(said)


@pytest.mark.parametrize("damage", [last_row, number], ids=["B2-cut-at-a-line", "E7-edited"])
def test_a_table_that_is_whole_but_not_as_it_was_measured(command, study, damage):
    damage(study / ROWS)
    ended = command("collect", "object_discovery", "--params", "params.json")
    ended.refused(r"rows\.csv: not as it was written .*delete it and run again")
    seals.lift([study / ROWS])  # to take it as it is
    assert command("collect", "object_discovery", "--params", "params.json").status == 0


@pytest.mark.parametrize("way", ["cut", "zeroed", "flipped", "gone", "garbage"])
def test_a_step_that_is_run_again_keeps_nothing_that_is_damaged(command, study, way):
    """What the messages say to do: the file beside the folder deleted, and the step run again."""
    array = study / BASELINE / "norms.npy"
    whole = array.read_bytes()
    WAYS[way](array)
    (study / f"{BASELINE}.json").unlink()
    assert command(*EXTRACT, "--params", "params.json").status == 0
    assert array.read_bytes() == whole
    assert command(*DISCOVER, "--params", "params.json").status == 0


CHECKPOINTS = {"E9-empty": empty, "E9-cut": cut, "E9-garbage": garbage, "E9-flipped": flipped}


@pytest.mark.parametrize("damage", CHECKPOINTS.values(), ids=CHECKPOINTS)
def test_a_damaged_checkpoint_is_no_obstacle(command, study, monkeypatch, damage):
    """A training that finds one starts from nothing, and ends in the same bytes."""
    from vit_registers.training.state import Training

    model = study / RESULTS / "models/vit-r0"
    whole = (model / "model.safetensors").read_bytes()

    def stop(self, *arguments):
        advance(self, *arguments)
        if self.step == 3:
            raise KeyboardInterrupt

    advance = Training.advance
    with monkeypatch.context() as patch:
        patch.setattr(Training, "advance", stop)
        ended = command("train", "--model", "vit-r0", "--params", "params.json")
    assert ended.status == 130
    assert ended.errors.splitlines()[-1].startswith("error: interrupted; run the same command again")
    damage(model / "checkpoint.pt")
    assert command("train", "--model", "vit-r0", "--params", "params.json").status == 0
    assert (model / "model.safetensors").read_bytes() == whole
    assert not (model / "checkpoint.pt").exists()


@pytest.mark.parametrize("text", [b"", b"{}", b"[", b'{"key": 1, "done": "two"}'])
def test_a_damaged_record_of_progress_is_no_obstacle(command, study, text):
    array = study / BASELINE / "norms.npy"
    whole = array.read_bytes()
    (study / BASELINE).rename(study / f"{BASELINE}.partial")
    (study / f"{BASELINE}.partial/progress.json").write_bytes(text)
    assert command(*EXTRACT, "--params", "params.json").status == 0
    assert array.read_bytes() == whole


def test_views_of_experiments_that_no_run_has_are_refused(command, study):
    """E14: an empty figure would be drawn over a full one."""
    command("figure", "norms_by_layer", "--params", "params.json").refused("no run of this study has the experiment")
    command("table", "probes", "--params", "params.json").refused("table 'probes'")


def test_nothing_is_measured_of_what_is_not_there(command, base):
    command("collect", "object_discovery", "--params", str(base)).refused("rows.csv: no such file; run the measures")


def test_what_nobody_foresaw_is_one_line_that_names_its_traceback(command, study, monkeypatch):
    from vit_registers.experiments.object_discovery import measure

    def broken(cfg, job):
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(measure, "run", broken)
    ended = command(*DISCOVER, "--params", "params.json")
    (line,) = ended.errors.splitlines()
    assert ended.status == 70
    assert "ZeroDivisionError in test_artefacts.py:" in line
    named = line.partition("the traceback is in ")[2].partition(";")[0]
    assert "division by zero" in (study / named).read_text()
    monkeypatch.setenv("VIT_REGISTERS_DEBUG", "1")
    shown = command(*DISCOVER, "--params", "params.json").errors.splitlines()
    assert shown[0].startswith("Traceback")
    assert shown[-1].startswith("error: ZeroDivisionError")


def test_a_refusal_shows_its_traceback_where_it_is_asked_for(command, base):
    ended = command("--debug", "collect", "no", "--params", str(base))
    assert ended.status == 2
    assert ended.errors.startswith("Traceback")
    assert ended.errors.splitlines()[-1].startswith("error: no measure 'no'")


def test_the_index_is_made_of_what_it_says(study):
    """The checksum in the index is that of the file, computed the slow way."""
    index = json.loads((study / BASELINE / "index.json").read_text())
    for name, spec in index["arrays"].items():
        crc = 0xFFFFFFFF
        for byte in (study / BASELINE / f"{name}.npy").read_bytes()[:4096]:
            crc ^= byte
            for _ in range(8):
                crc = crc >> 1 ^ (0xEDB88320 if crc & 1 else 0)
        if (study / BASELINE / f"{name}.npy").stat().st_size <= 4096:
            assert spec["crc32"] == crc ^ 0xFFFFFFFF
