"""Tables and figures: views of the tidy table."""
