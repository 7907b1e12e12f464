"""Kinds of recipes."""
