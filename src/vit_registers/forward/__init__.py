"""One forward pass over a data set under an intervention, many readers, cached tensors."""
