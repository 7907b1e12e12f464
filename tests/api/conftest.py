"""Images for tiny random backbones."""

from helpers.passes import pixels

__all__ = ["pixels"]
