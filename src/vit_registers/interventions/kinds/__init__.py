"""The kinds of interventions, found by being here: one file each, with its params, words, checks and hooks."""
