"""Outlier patches, and the register neurons behind them."""
