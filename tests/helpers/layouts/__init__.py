"""Small files in the true layout of published data sets: for their own tests, and for studies of whole papers."""
