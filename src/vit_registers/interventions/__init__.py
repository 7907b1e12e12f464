"""What is done to a model during a pass: one file per kind in :mod:`.kinds`, what they share in :mod:`.base`."""
