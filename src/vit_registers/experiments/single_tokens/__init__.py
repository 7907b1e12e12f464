"""Single tokens."""
