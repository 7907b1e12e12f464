"""Published data sets whose images have boxes of objects."""
