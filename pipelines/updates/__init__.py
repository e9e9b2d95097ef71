"""Measurement updates: how a prediction is moved towards the measurement."""
