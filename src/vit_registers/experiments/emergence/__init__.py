"""Emergence."""
