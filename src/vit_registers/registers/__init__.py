"""Artifact tokens, and the register neurons behind them."""
