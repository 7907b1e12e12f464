"""Token statistics."""
