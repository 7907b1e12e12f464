"""SIGKILL at the worst moments, and two runs at once: nothing is lost, and the tables come out the same."""

import fcntl
import os
import signal
import tempfile
import time

import pytest

from helpers.projects import held
from vit_registers.core import seals

pytestmark = pytest.mark.pipeline
PRODUCED = (
    "results/*/tables/*",
    "results/*/rows/*",
    "results/*/table.csv",
    "results/*/figures/*",
    "results/*/models/*/model.safetensors",
    "results/*/report/report.pdf",
)


def kill_when(project, seen, cores):
    """Start a run and SIGKILL it with all its children as soon as ``seen()``; the run must not have ended by then."""
    with tempfile.TemporaryFile("w+") as output:
        process = project.start("snakemake", "--cores", cores, output=output)
        deadline = time.monotonic() + 600
        while not seen():
            if process.poll() is not None:
                output.seek(0)
                pytest.fail(f"ended before the moment came:\n{output.read()[-3000:]}")
            assert time.monotonic() < deadline, "the moment never came"
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_killed_in_training_extraction_and_tables_then_finished_gives_the_same_bytes(few, fresh):
    """The killed study begins on one core and ends on two: that must not matter either."""
    fresh.keep_few()
    results = fresh.results
    kill_when(fresh, lambda: list((results / "models/vit-r0").glob("checkpoint*")), "1")
    kill_when(fresh, lambda: list((results / "features").rglob("*.partial/*.npy")), "1")
    kill_when(fresh, lambda: len(list((results / "tables").glob("*.csv"))) >= 2, "2")
    fresh.snakemake("--cores", "2")
    assert fresh.planned() == []
    for measured in few.path.glob("results/*/models/*/time.json"):  # all that may differ
        for path in (measured, seals.place(measured)):  # with its checksum, or it would be refused as edited
            (fresh.path / path.relative_to(few.path)).write_bytes(path.read_bytes())
    fresh.snakemake("--cores", "2")
    ours, theirs = fresh.contents(*PRODUCED), few.contents(*PRODUCED)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []


def test_a_run_holds_its_study_and_a_second_one_is_refused(few):
    target = ("--forcerun", "collect", "--", "results/smoke/table.csv")
    lock = few.path / ".snakemake/smoke.run.lock"
    first = few.start("snakemake", "--cores", "1", *target)
    while lock.read_text() != str(first.pid):
        assert first.poll() is None, first.communicate()[0]
        time.sleep(0.01)
    with lock.open() as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert first.wait() == 0, first.communicate()[0]
    with held(few.path) as process:
        before = few.contents(*PRODUCED)
        output = few.snakemake("--cores", "1", *target, status=2)
        assert f"error: another run (process {process}) of 'smoke' is at work" in output
        assert few.contents(*PRODUCED) == before
    assert few.planned() == []
