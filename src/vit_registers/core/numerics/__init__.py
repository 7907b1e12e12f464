"""Arithmetic on arrays that several subjects share; statistics of results are in :mod:`vit_registers.core.stats`."""
