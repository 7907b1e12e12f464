"""Scenes of the explorer: maps of single images, and norms in numbers."""
