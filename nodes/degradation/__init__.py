"""Degradations: operators, measurements made with them, and random chains for examples."""
