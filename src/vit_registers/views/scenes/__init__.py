"""What scenes of the explorer are made of; the scenes stand with the experiments, the page in report/explorer."""
