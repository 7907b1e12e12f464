"""Training energy."""
