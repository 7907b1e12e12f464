import time

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from vit_registers.core.errors import InputError
from vit_registers.data.manifest import Manifest
from vit_registers.extraction import images
from vit_registers.extraction.images import Images
from vit_registers.models.preprocess import Preprocess
from vit_registers.params.passes import Loading

PREPROCESS = Preprocess.square(16, 20, "bicubic", (0.1, 0.2, 0.3), (0.5, 0.6, 0.7))


@pytest.fixture
def table(tmp_path):
    """Nine images of different sizes."""
    draw = np.random.default_rng(0)
    for i in range(9):
        Image.fromarray(draw.integers(0, 256, (24, 20 + i, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
    return Manifest("tiny", pd.DataFrame({"path": [f"{i}.png" for i in range(9)]}), [], tmp_path, "")


def batches(table, rows):
    return list(Images(table, PREPROCESS).batches([np.array(batch) for batch in rows]))


@pytest.mark.parametrize("limit", [0, 1 << 30])
def test_batches_hold_the_rows_that_were_asked_for_in_their_order(table, limit, monkeypatch):
    monkeypatch.setattr(images, "CACHE_BYTES", limit)
    asked = [[4, 0, 8], [1], [7, 7, 2, 3]]
    found = batches(table, asked)
    assert [batch.shape for batch in found] == [(3, 3, 16, 16), (1, 3, 16, 16), (4, 3, 16, 16)]
    for batch, rows in zip(found, asked, strict=True):
        for image, row in zip(batch, rows, strict=True):
            assert torch.equal(image, PREPROCESS(Image.open(table.file(row))))


def test_no_batches_are_no_batches(table):
    assert batches(table, []) == []


@pytest.mark.parametrize(("limit", "decoded"), [(0, 4), (9 * 3 * 16**2, 2), (9 * 3 * 16**2 - 1, 4)])
def test_what_fits_in_memory_is_decoded_once(table, limit, decoded, monkeypatch):
    monkeypatch.setattr(images, "CACHE_BYTES", limit)
    opened, original = [], images.load_image
    monkeypatch.setattr(images, "load_image", lambda path: opened.append(path) or original(path))
    source = Images(table, PREPROCESS)
    first = list(source.batches([np.array([3, 5])]))
    second = list(source.batches([np.array([5]), np.array([3])]))
    assert len(opened) == decoded
    assert torch.equal(torch.cat(second), first[0][[1, 0]])


def test_a_second_view_is_not_taken_for_its_image(table):
    """Whichever comes first, and when both are in memory."""
    view = np.random.default_rng(1).integers(0, 256, (30, 26, 3), dtype=np.uint8)
    Image.fromarray(view).save(table.root / "view.png")
    known = '{"pair": "view.png", "matrix": [[1, 0, 0], [0, 1, 0]]}'
    table.table["correspondence"] = [None, None, known, *[None] * 6]
    (number,) = table.numbers_of_views(np.array([2]))
    for asked in ([number, 2], [2, number]):
        source = Images(table, PREPROCESS, views=1)
        for _ in range(2):
            (batch,) = source.batches([np.array(asked)])
            for image, one in zip(batch, asked, strict=True):
                path = table.root / "view.png" if one == number else table.file(2)
                assert torch.equal(image, PREPROCESS(Image.open(path)))
        assert len(source.cache) == 2


def test_second_views_take_their_part_of_the_memory(table, monkeypatch):
    monkeypatch.setattr(images, "CACHE_BYTES", 10 * 3 * 16**2)
    assert Images(table, PREPROCESS, views=1).cache is not None
    assert Images(table, PREPROCESS, views=2).cache is None


def test_an_image_that_is_missing_is_named(table):
    table.file(6).unlink()
    with pytest.raises(InputError, match=r"6\.png: no such image"):
        batches(table, [[0, 1], [5, 6]])


class Counting(Images):
    """Says how many images were asked for when each batch is given."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.asked = 0

    def _load(self, number):
        self.asked += 1
        return super()._load(number)


@pytest.mark.parametrize(("workers", "ahead"), [(1, 1), (3, 1), (2, 4), (8, 50)])
def test_batches_are_the_same_whoever_decodes_and_however_far_ahead(table, workers, ahead):
    numbers = [np.array([i % 9, (i + 1) % 9]) for i in range(12)]
    loading = Loading(workers=workers, ahead=ahead)
    expected = batches(table, numbers)
    found = list(Images(table, PREPROCESS, None, loading).batches(numbers))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    native = [np.array([i]) for i in range(9)]
    for a, b in zip(
        Images(table, PREPROCESS, None, loading).native(native, (8, 8)),
        Images(table, PREPROCESS).native(native, (8, 8)),
        strict=True,
    ):
        assert torch.equal(a, b)


@pytest.mark.parametrize("ahead", [1, 3])
def test_no_more_batches_are_made_ahead_than_params_say(table, ahead):
    source = Counting(table, PREPROCESS, None, Loading(workers=2, ahead=ahead))
    given = source.batches([np.array([i]) for i in range(9)])
    next(given)
    for _ in range(200):  # they are made in the background
        if source.asked == 1 + ahead:
            break
        time.sleep(0.01)
    time.sleep(0.05)
    assert source.asked == 1 + ahead
    given.close()


def test_who_asks_for_no_more_does_not_wait_for_what_was_to_come(table):
    slow, original = [], images.load_image

    def load(path):
        slow.append(path)
        time.sleep(0.02)
        return original(path)

    source = Images(table, PREPROCESS, None, Loading(workers=1, ahead=8))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "load_image", load)
        given = source.batches([np.array([i]) for i in range(9)])
        next(given)
        given.close()
    assert len(slow) <= 3


def test_images_are_normalised_on_the_device_of_a_gpu(table, monkeypatch):
    """What is copied there is bytes, from page-locked memory; here both are done by the CPU."""
    pinned, numbers = [], [np.array([4, 0, 8]), np.array([1, 2])]
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor.dtype) or tensor)
    source = Images(table, PREPROCESS, torch.device("cuda"), Loading())
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, device, non_blocking: tensor)
    found = list(source.batches(numbers))
    monkeypatch.undo()
    assert pinned == [torch.uint8] * 2
    assert all(torch.equal(a, b) for a, b in zip(found, batches(table, numbers), strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_batches_are_those_of_the_cpu(table):
    numbers = [np.array([4, 0, 8]), np.array([1, 2])]
    found = list(Images(table, PREPROCESS, torch.device("cuda")).batches(numbers))
    assert {batch.device.type for batch in found} == {"cuda"}
    assert all(torch.allclose(a.cpu(), b, atol=1e-6) for a, b in zip(found, batches(table, numbers), strict=True))
