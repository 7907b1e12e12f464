"""Side-by-side measurements: ratios within one run, never times against a clock."""
