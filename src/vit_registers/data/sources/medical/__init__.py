"""Published data sets of medical images, split as kukade2025 splits them."""
