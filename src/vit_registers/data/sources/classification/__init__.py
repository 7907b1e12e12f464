"""Published data sets whose images have a class."""
