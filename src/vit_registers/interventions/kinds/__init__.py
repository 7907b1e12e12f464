"""Kinds of interventions."""
