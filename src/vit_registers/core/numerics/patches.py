"""Images as rows of patches."""

from torch import Tensor


def patchify(images: Tensor, patch: tuple[int, int]) -> Tensor:
    """Images (n, c, h, w) as patches (n, p, c * ph * pw): row-major over the grid, and channel, row, column within.

    (Reshaping the memory of the image instead, as bach2025's code does, gives stripes of several patches.)
    """
    n, channels, height, width = images.shape
    rows, columns = height // patch[0], width // patch[1]
    cut = images.reshape(n, channels, rows, patch[0], columns, patch[1])
    return cut.permute(0, 2, 4, 1, 3, 5).reshape(n, rows * columns, channels * patch[0] * patch[1])
