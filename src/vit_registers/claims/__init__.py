"""What the papers claim: the ledger of published numbers and findings, and the number of ours to hold each against."""
