"""What an intervention becomes on one backbone, and how it is put in force.

An intervention of params (:class:`vit_registers.params.bases.Intervention`) says what is meant on any model. Its
``resolve`` looks at a backbone and at what detection and calibration found, and returns an :class:`Applied`, or
:class:`NotApplicable`. None stands for the baseline, on which nothing is done.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vit_registers.interventions.activation_statistics import ActivationStatistics
    from vit_registers.models.backbone import Backbone
    from vit_registers.models.layout import TokenLayout


@dataclass(frozen=True)
class NotApplicable:
    """The condition cannot be had on this model; ``reason`` says why, and tables repeat it."""

    reason: str


@dataclass(frozen=True)
class Known:
    """What interventions may ask for besides the backbone.

    ``registers``: what detection wrote; ``statistics``: what calibration did. ``names`` seed draws: the study's seed,
    then data set, model and condition. ``appended``: tokens that the chain of which this is a part appends.
    """

    registers: dict[str, Any] | None
    statistics: ActivationStatistics | None
    names: tuple[str | int, ...]
    appended: int = 0

    @property
    def condition(self) -> str:
        """Name of the condition, for messages."""
        return str(self.names[-1])


class Applied(ABC):
    """An intervention as one backbone takes it: its settings, and what was found or drawn for them.

    Each kind has a subclass, a frozen dataclass, and works on every image of a batch by itself unless it says
    otherwise.
    """

    @property
    def appended(self) -> int:
        """Tokens that it appends to the sequence."""
        return 0

    @property
    def shuffles(self) -> bool:
        """Whether images take tokens of others in their batch."""
        return False

    @property
    def batch(self) -> int | None:
        """Images that pass at a time; None where that is left to the extraction."""
        return None

    @abstractmethod
    def described(self) -> Any:
        """Plain JSON that tells it from others: part of the key under which features are cached."""

    def check(self, backbone: Backbone, layout: TokenLayout) -> None:  # noqa: B027  most ask for nothing
        """Refuse, by :class:`InputError`, what ``backbone`` has no place for; ``layout`` counts appended tokens."""

    @abstractmethod
    def hooks(self, backbone: Backbone, layout: TokenLayout, stack: ExitStack) -> None:
        """Hook into ``backbone`` what changes its passes, until ``stack`` is closed."""


def described(intervention: Applied | None) -> Any:
    """Plain JSON that tells interventions apart; null for the baseline."""
    return None if intervention is None else intervention.described()


def shuffles(intervention: Applied | None) -> bool:
    """Whether images take tokens of others in their batch: a batch then needs two of them."""
    return intervention is not None and intervention.shuffles


def layout_under(backbone: Backbone, intervention: Applied | None) -> TokenLayout:
    """Token layout of the sequence while ``intervention`` is in force."""
    return backbone.layout.with_appended(0 if intervention is None else intervention.appended)


def check(backbone: Backbone, intervention: Applied | None) -> None:
    """Refuse an intervention that the backbone has no place for, before any image is read."""
    if intervention is not None:
        intervention.check(backbone, layout_under(backbone, intervention))


@contextmanager
def applied(backbone: Backbone, intervention: Applied | None) -> Iterator[TokenLayout]:
    """Put ``intervention`` in force and yield the layout; hooks only, so leaving restores the model bit for bit."""
    check(backbone, intervention)
    layout = layout_under(backbone, intervention)
    with ExitStack() as stack:
        if intervention is not None:
            intervention.hooks(backbone, layout, stack)
        yield layout
