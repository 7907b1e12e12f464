"""Which points of an image are known in other images: column ``correspondence`` of the manifest, a JSON text per image.

Two forms. ``{"pair": path, "matrix": [[a, b, c], [d, e, f]]}``: a second view of the image, and where its pixels went.
``{"keypoints": [[x, y, visible], ...]}``: the keypoints of the image's class, in an order that is the same for all
images of the class, so that each corresponds to the one of the same number in any other (SPair-71k, Min et al. 2019).
Points are in pixels, of which the first spans 0 to 1.
"""

from typing import Annotated

from pydantic import Field, FiniteFloat, TypeAdapter, ValidationError

from vit_registers.core.errors import InputError
from vit_registers.params.base import Strict

MatrixRow = tuple[FiniteFloat, FiniteFloat, FiniteFloat]


class Pair(Strict):
    """``pair``: path of a second view; ``matrix`` (2x3) maps points (x, y, 1) of the image onto it, in pixels."""

    pair: str
    matrix: tuple[MatrixRow, MatrixRow]

    @property
    def files(self) -> list[str]:
        """Further images that have to be there."""
        return [self.pair]

    @property
    def points(self) -> list[tuple[float, float]]:
        """Points (x, y) that have to lie in the image."""
        return []

    @property
    def second_view(self) -> "Pair | None":
        """The second view, where there is one."""
        return self

    @property
    def of_class(self) -> "Keypoints | None":
        """Keypoints that images of the class have in common, where there are some."""
        return None


class Keypoints(Strict):
    """Keypoints (x, y, visible) in pixels, 0-based; where one is not visible its x and y mean nothing."""

    keypoints: Annotated[list[tuple[FiniteFloat, FiniteFloat, bool]], Field(min_length=1)]

    @property
    def files(self) -> list[str]:
        """Further images that have to be there."""
        return []

    @property
    def points(self) -> list[tuple[float, float]]:
        """Points (x, y) that have to lie in the image."""
        return [(x, y) for x, y, visible in self.keypoints if visible]

    @property
    def second_view(self) -> Pair | None:
        """The second view, where there is one."""
        return None

    @property
    def of_class(self) -> "Keypoints | None":
        """Keypoints that images of the class have in common, where there are some."""
        return self


_FORMS: TypeAdapter[Pair | Keypoints] = TypeAdapter(Pair | Keypoints)


def parse(text: str) -> Pair | Keypoints:
    """One entry of the column; :class:`InputError` where it has neither form."""
    try:
        return _FORMS.validate_json(text)
    except ValidationError:
        raise InputError(
            f"correspondence {text!r} is neither a pair with a 2x3 matrix nor keypoints [x, y, visible (true or false)]"
        ) from None
