"""Cached features: one pass over a data set per condition."""
