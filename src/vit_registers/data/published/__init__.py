"""Data sets that were published, as far as they are known before they are there."""
