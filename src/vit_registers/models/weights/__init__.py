"""Weights that others made: from the hub or from files, and how they get into a module of timm."""
