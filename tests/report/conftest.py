"""A made-up study with the files that measures leave."""

from helpers.made_up import embedded, make_study

__all__ = ["embedded", "make_study"]
