"""Published data sets whose pixels have a class or a depth."""
