"""The algorithms: pure torch, no ComfyUI, no checkpoints; one paper, one folder.

`subdaps`, `adadiffsr` and `invsr` are the three methods. A known damage is an operator
(`operators`) whose measurement pulls predictions towards it (`updates`); a blur that nobody knows
is found in `blind`, what else a photograph suffered in `photograph`; `degradation` spoils examples.
Beside them stands what several share: the schedule, the noise, the levels of resolution, tiles.
"""
