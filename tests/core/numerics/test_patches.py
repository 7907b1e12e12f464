import pytest
import torch
import torch.nn.functional as F

from vit_registers.core.numerics.patches import patchify


@pytest.mark.parametrize(
    ("size", "patch"), [((12, 20), (4, 4)), ((6, 4), (3, 2)), ((8, 8), (8, 8)), ((10, 21), (5, 7))]
)
def test_patches_are_those_of_slices_and_make_up_the_image(size, patch):
    images = torch.randn(3, 2, *size, generator=torch.Generator().manual_seed(0))
    patches = patchify(images, patch)
    grid = (size[0] // patch[0], size[1] // patch[1])
    pasted = torch.full_like(images, torch.nan)
    for row in range(grid[0]):
        for column in range(grid[1]):
            y, x = row * patch[0], column * patch[1]
            of_grid = patches[:, row * grid[1] + column]
            assert torch.equal(of_grid, images[:, :, y : y + patch[0], x : x + patch[1]].flatten(1))
            pasted[:, :, y : y + patch[0], x : x + patch[1]] = of_grid.view(3, 2, *patch)
    assert torch.equal(pasted, images)


def test_reshaping_the_memory_of_an_image_is_something_else():
    images = torch.arange(2 * 8 * 8.0).view(1, 2, 8, 8)
    assert not torch.equal(patchify(images, (4, 4)), images.reshape(1, 4, -1))


def test_patches_are_those_that_a_model_embeds():
    draw = torch.Generator().manual_seed(0)
    images, weight = torch.randn(2, 3, 32, 24, generator=draw), torch.randn(5, 3, 8, 8, generator=draw)
    embedded = F.conv2d(images, weight, stride=8).flatten(2).transpose(1, 2)
    torch.testing.assert_close(patchify(images, (8, 8)) @ weight.flatten(1).T, embedded, rtol=1e-4, atol=1e-4)
