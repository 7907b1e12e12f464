"""Register cost."""
