"""Models whose register neurons are known because the pipeline wrote them."""
