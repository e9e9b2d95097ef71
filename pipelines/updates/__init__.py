"""Measurement updates: how a prediction is moved towards the measurement.

`update` says what one is: `conjugate_gradient` (SubDAPS++), `langevin` (DAPS), `gradient` (DPS),
and `closed_form` and `before_rounding`, which conjugate gradients use where they can.
"""
