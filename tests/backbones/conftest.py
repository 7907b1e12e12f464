"""Trainings that do not come to their end by themselves."""

import os
import signal
import subprocess
import sys
import time

import pytest

from vit_registers.backbones import train

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
