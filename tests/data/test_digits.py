"""scikit-learn's digits as a data set."""

import json

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError
from sklearn.datasets import load_digits

from vit_registers.data import prepare
from vit_registers.data.manifest import Manifest
from vit_registers.data.sources.digits import Digits
from vit_registers.pipeline.configs import PrepareConfig


def step(**source):
    content = {"seed": 0, "name": "digits", "source": {"kind": "digits", **source}}
    return PrepareConfig.model_validate_json(json.dumps(content))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("digits")
    prepare.run(step(), out)
    return Manifest.load(out)


def test_every_scan_is_there_with_its_label_in_a_stratified_split(made):
    read = load_digits()
    assert made.classes == list("0123456789")
    assert made.table["label"].tolist() == read.target.tolist()
    assert made.table[["boxes", "mask", "depth"]].isna().all(axis=None)
    shares = made.table["split"].eq("test").groupby(made.table["label"]).mean()
    assert len(shares) == 10
    assert shares.between(0.38, 0.42).all()


def test_an_enlarged_scan_is_the_scan(made):
    """Averaged over each eighth of its side, it is what was scanned, up to bicubic overshoot."""
    scans = load_digits().images
    for row in (0, 700, 1796):
        with Image.open(made.file(row)) as picture:
            pixels = np.asarray(picture)
        assert pixels.shape == (32, 32, 3)
        assert (pixels == pixels[..., :1]).all()
        means = pixels[..., 0].reshape(8, 4, 8, 4).mean((1, 3))
        assert np.corrcoef(means.ravel(), scans[row].ravel())[0, 1] > 0.98
        assert np.abs(means - scans[row] * 255 / 16).max() < 60


def test_at_their_own_size_scans_are_as_published(tmp_path):
    prepare.run(step(size=8), tmp_path)
    manifest = Manifest.load(tmp_path)
    with Image.open(manifest.file(5)) as picture:
        pixels = np.asarray(picture)[..., 0]
    assert np.array_equal(pixels, np.round(load_digits().images[5] * 255 / 16))


def test_the_same_params_write_the_same_bytes(made, tmp_path):
    prepare.run(step(), tmp_path)
    again = Manifest.load(tmp_path)
    assert again.sha256 == made.sha256
    assert again.file(3).read_bytes() == made.file(3).read_bytes()


@pytest.mark.parametrize("wrong", [{"size": 4}, {"test_share": 0.0}, {"path": "data"}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ValidationError):
        Digits(kind="digits", **wrong)
