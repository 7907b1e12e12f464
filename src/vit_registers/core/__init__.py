"""What everything stands on: errors, files, seeds, the tidy table, statistics; imports nothing else of the package."""
