"""Tiny random backbones of every family, the same passes written out by hand, and a data set with its features."""

import pytest

from helpers.passes import by_hand, family, killed_before_line, make, pixels
from helpers.workshop import template, workshop
from vit_registers.extraction import store

__all__ = ["by_hand", "family", "killed_before_line", "make", "pixels", "template", "workshop"]


@pytest.fixture
def viewed(workshop):
    """Second views of another size than their images."""
    workshop.add_views()
    return workshop


@pytest.fixture
def counted(monkeypatch):
    """Every batch is made safe, however fast they follow each other."""
    monkeypatch.setattr(store, "RECORD_SECONDS", 0.0)
