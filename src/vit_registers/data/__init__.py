"""From images on disk or from a generator to one manifest per data set."""
