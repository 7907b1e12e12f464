"""Kill a tiny study again and again, at random moments of all of its phases, and compare every byte at the end.

    python tests/hostile/soak.py --kills 100 --seed 0

A study of one model runs once whole, and once killed (SIGKILL to the run with all its children, or SIGINT to the run
alone) until so many kills have been; killed runs that would have nothing left to do lose their results and begin again.
All files that a person reads must be the same bytes but for the measured training time.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))
from hostile.conftest import TINY
from vit_registers.params import reading
from workflow.conftest import Project, copy_repository

PATTERNS = ("data/prepared/tiny/**/*", "results/tiny/**/*")
# Of the training time: what was measured, all that is made of it, and Snakemake's records of when what was made.
TIMED = ("time.json", "training_energy", "table.csv", "summary.json", "provenance", "report", ".sha256", ".lock")


def files(project: Project) -> dict[str, bytes]:
    """Bytes of all files of a study that do not depend on the time that its training took."""
    found = project.contents(*PATTERNS)
    return {name: content for name, content in found.items() if not any(part in name for part in TIMED)}


def made(folder: Path) -> Project:
    """A copy of the repository whose params are those of the tiny study."""
    project = copy_repository(folder)
    content = reading.overlay(reading.read_yaml(folder / "params.yaml"), TINY)
    kept = TINY["study"]["runs"][0]["experiments"]
    content["experiments"] = {
        name: content["experiments"][name] if name in kept else None for name in content["experiments"]
    }
    (folder / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return project


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--kills", type=int, default=100)
    asked.add_argument("--seed", type=int, default=0)
    given = asked.parse_args()
    draw = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as scratch:
        whole, killed = made(Path(scratch, "whole")), made(Path(scratch, "killed"))
        begun = time.monotonic()
        whole.snakemake("--cores", "2")
        takes, expected, kills = time.monotonic() - begun, files(whole), 0
        print(f"whole: {takes:.0f} s, {len(expected)} files; seed {given.seed}", flush=True)
        while kills < given.kills:
            with tempfile.TemporaryFile("w+") as output:
                run = killed.start("snakemake", "--cores", draw.choice("12"), output=output)
                wait = draw.uniform(0.0, takes)
                ended = time.monotonic() + wait
                while time.monotonic() < ended and run.poll() is None:
                    time.sleep(0.02)
                if run.poll() is None:
                    kind = draw.choice((signal.SIGKILL, signal.SIGINT))
                    os.killpg(run.pid, kind) if kind == signal.SIGKILL else run.send_signal(kind)
                    run.wait()
                    kills += 1
                    print(f"{kills}: {kind.name} after {wait:.1f} s", flush=True)
                    continue
                output.seek(0)
                if run.returncode:
                    print(output.read()[-3000:])
                    return 1
            differing = compared(killed, expected)
            print(f"finished after {kills} kills: {len(differing)} differ {differing[:5]}", flush=True)
            if differing:
                return 1
            for folder in ("results/tiny", "data/prepared/tiny", ".snakemake"):
                shutil.rmtree(killed.path / folder, ignore_errors=True)
        killed.snakemake("--cores", "2")
        differing = compared(killed, expected)
        print(f"{kills} kills, {len(differing)} of {len(expected)} files differ {differing[:5]}")
        return int(bool(differing))


def compared(project: Project, expected: dict[str, bytes]) -> list[str]:
    """Files that differ, are missing or are too many."""
    found = files(project)
    return sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))


if __name__ == "__main__":
    sys.exit(main())
