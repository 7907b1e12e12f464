"""What is measured on cached features; every readout ends in rows of the tidy table."""
