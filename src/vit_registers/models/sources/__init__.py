"""Models by where their weights come from."""
