"""Figures of token statistics."""
