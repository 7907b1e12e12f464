"""What trainings are tested on, and trainings that do not come to their end by themselves."""

import os
import signal
import subprocess
import sys
import time

import pytest

from vit_registers import params
from vit_registers.backbones import train
from vit_registers.data import prepare
from vit_registers.data.manifest import Manifest
from vit_registers.steps import PrepareStep

# A training whose steps take a while, so that it can be killed between them.
SLOW = """
import pathlib, sys, time
import vit_registers.backbones.train as train, vit_registers.steps as steps
advance = train.Training.advance
def slow(self, *step):
    time.sleep(0.1)
    advance(self, *step)
train.Training.advance = slow
train.run(steps.TrainStep.model_validate_json(sys.argv[1]), pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]))
"""


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A folder with 140 small images that nothing changes."""
    folder = tmp_path_factory.mktemp("data") / "shapes"
    source = params.GeneratedDataset(kind="generated", train=100, test=40, size=32)
    prepare.run(PrepareStep(seed=0, name="shapes", source=source), folder)
    return folder


@pytest.fixture(scope="session")
def manifest(data):
    return Manifest.load(data)


@pytest.fixture(scope="session")
def produced():
    """Bytes of all files of a training by relative path, but those that need not be the same again."""

    def produced(folder):
        files = [path for path in folder.rglob("*") if path.is_file() and path.name not in (".lock", "time.json")]
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}

    return produced


class StopError(Exception):
    pass


@pytest.fixture
def stopped(monkeypatch):
    """Train until step ``last`` would be next, and no further."""

    def stopped(cfg, data, out, last):
        advance = train.Training.advance

        def stopping(self, of_step, rate):
            if self.step == last:
                raise StopError
            advance(self, of_step, rate)

        with monkeypatch.context() as patched:
            patched.setattr(train.Training, "advance", stopping)
            with pytest.raises(StopError):
                train.run(cfg, data, out)
        assert not (out / "model.json").exists()

    return stopped


@pytest.fixture
def killed():
    """Train in a process that is killed ``after`` so many seconds beyond its first checkpoint."""

    def killed(cfg, data, out, after=0.0):
        process = subprocess.Popen([sys.executable, "-c", SLOW, cfg.model_dump_json(), str(data), str(out)])
        while not (out / "checkpoint.pt").exists():
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(after)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert not (out / "model.json").exists()

    return killed
