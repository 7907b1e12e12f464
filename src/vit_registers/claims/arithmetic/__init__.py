"""Entries of the ledger that its own numbers, or two of its passages, put in doubt: one module per source."""
