"""Degradation operators: one degradation, one file."""
