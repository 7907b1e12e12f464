"""Servers that tests start: a hub of weights, a cluster of one node."""
