import pytest
import torch

from vit_registers.core.patches import patchify, unpatchify


@pytest.mark.parametrize(
    ("size", "patch"), [((12, 20), (4, 4)), ((6, 4), (3, 2)), ((8, 8), (8, 8)), ((10, 21), (5, 7))]
)
def test_patches_are_those_of_slices_and_go_back_to_the_image(size, patch):
    images = torch.randn(3, 2, *size, generator=torch.Generator().manual_seed(0))
    patches = patchify(images, patch)
    grid = (size[0] // patch[0], size[1] // patch[1])
    for row in range(grid[0]):
        for column in range(grid[1]):
            y, x = row * patch[0], column * patch[1]
            cut = images[:, :, y : y + patch[0], x : x + patch[1]].flatten(1)
            assert torch.equal(patches[:, row * grid[1] + column], cut)
    assert torch.equal(unpatchify(patches, patch, grid), images)


def test_reshaping_the_memory_of_an_image_is_something_else():
    images = torch.arange(2 * 8 * 8.0).view(1, 2, 8, 8)
    assert not torch.equal(patchify(images, (4, 4)), images.reshape(1, 4, -1))
