"""Degradation operators: one degradation, one file.

`contract` says what an operator is, `adjoint` holds its derivative against it. `compose`, `canvas`,
`decode` and `wrapped` build operators from operators.
"""
