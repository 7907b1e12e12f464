"""Tiny random backbones of every family, and the same passes written out by hand."""

from helpers.passes import by_hand, family, killed_before_line, make, pixels

__all__ = ["by_hand", "family", "killed_before_line", "make", "pixels"]
