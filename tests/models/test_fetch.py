"""How images are brought to a fetched model."""

from pathlib import Path

import pytest

from vit_registers.core.errors import InputError
from vit_registers.models import backbone, fetch
from vit_registers.models.sources.timm_hub import TimmModel
from vit_registers.pipeline.configs import FetchConfig

SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2}


def source(resize: int | None) -> TimmModel:
    return TimmModel(kind="timm", name="vit_tiny_patch16_224", weights="random", arguments=SMALL, resize=resize)


def test_images_are_resized_before_the_crop_as_asked_or_as_the_weights_say(tmp_path: Path) -> None:
    fetch.run(FetchConfig(seed=0, name="own", source=source(None)), tmp_path / "own")
    fetch.run(FetchConfig(seed=0, name="asked", source=source(40)), tmp_path / "asked")
    own, asked = (backbone.load(tmp_path / name).preprocess for name in ("own", "asked"))
    assert (own.size, own.resize) == ((32, 32), (35, 35))  # timm's crop_pct of that model is 0.9
    assert (asked.size, asked.resize) == ((32, 32), (40, 40))


def test_what_is_smaller_than_the_input_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"models\.m\.resize: 31 pixels are less than the input of 32x32"):
        fetch.run(FetchConfig(seed=0, name="m", source=source(31)), tmp_path)
