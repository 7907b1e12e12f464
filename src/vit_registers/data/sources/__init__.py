"""Data sets by kind."""
