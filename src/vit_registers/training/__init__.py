"""Training ViTs from scratch: loop, recipes, monitoring."""
