"""What is done to a model during a pass."""
