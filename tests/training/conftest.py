"""What trainings are tested on, and trainings that do not come to their end by themselves."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from helpers.studies import only
from vit_registers.core.files import read_json
from vit_registers.data import prepare
from vit_registers.data.manifest import Manifest
from vit_registers.params import reading
from vit_registers.pipeline import configs
from vit_registers.pipeline.paths import Paths
from vit_registers.training import loop as train

ROOT = Path(__file__).parents[2]

# A training whose steps take a while, so that it can be killed between them.
SLOW = """
import pathlib, sys, time
import vit_registers.training.loop as train, vit_registers.pipeline.configs as configs
advance = train.Training.advance
def slow(self, *step):
    time.sleep(0.1)
    advance(self, *step)
train.Training.advance = slow
train.run(configs.TrainConfig.model_validate_json(sys.argv[1]), pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]))
"""


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A folder with 140 small images that nothing changes."""
    folder = tmp_path_factory.mktemp("data") / "shapes"
    source = {"kind": "generated", "train": 100, "test": 40, "size": 32}
    step = {"seed": 0, "name": "shapes", "source": source}
    prepare.run(configs.PrepareConfig.model_validate(step), folder)
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


@pytest.fixture
def resumed(stopped):
    """Train until step ``last`` would be next, let others draw from the global generators, and train to the end."""

    def resumed(cfg, data, out, last):
        stopped(cfg, data, out, last)
        random.seed(last)
        np.random.seed(last)  # noqa: NPY002
        torch.manual_seed(last)
        train.run(cfg, data, out)

    return resumed


def params_of(cfg, name):
    """Params of a study ``name`` in which the model of ``cfg`` is trained as ``cfg`` says."""
    model = {"kind": "trained", "dataset": cfg.dataset, "recipe": "own", "registers": cfg.registers}
    change = {
        "seed": cfg.seed,
        "device": cfg.device,
        "models": {cfg.name: model},
        "recipes": {"own": cfg.recipe.model_dump(mode="json")},
        **only({"name": name, "runs": [{"dataset": cfg.dataset, "models": [cfg.name], "interventions": []}]}),
    }
    content = reading.overlay(reading.read_yaml(ROOT / "params.yaml"), change)
    assert configs.train(reading.parse(content), cfg.name) == cfg
    return content


@pytest.fixture
def shared():
    """The model folder of a training by two processes, started as a person would in ``folder``."""

    def shared(cfg, data, folder):
        at = Paths("shared", folder)
        at.data.mkdir(parents=True)
        at.dataset(cfg.dataset).symlink_to(data)
        (folder / "params.yaml").write_text(yaml.safe_dump(params_of(cfg, at.study) | {"processes": 2}))
        command = ["train", "--model", cfg.name, "--params", "params.yaml"]
        command = [sys.executable, "-m", "vit_registers.cli", *command]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        assert read_json(at.model(cfg.name) / "time.json")["processes"] == 2
        return at.model(cfg.name)

    return shared


@pytest.fixture
def agree():
    """Weights of about .02 to 1 and losses are the same to 2e-5: sums are rounded in another order."""

    def agree(one, two):
        ours, theirs = load_file(one / "model.safetensors"), load_file(two / "model.safetensors")
        assert ours.keys() == theirs.keys()
        assert max(float((ours[name] - theirs[name]).abs().max()) for name in ours) < 2e-5
        curves = [np.loadtxt(out / "training.csv", delimiter=",", skiprows=1)[:, 2] for out in (one, two)]
        assert np.abs(curves[0] - curves[1]).max() < 2e-5

    return agree
