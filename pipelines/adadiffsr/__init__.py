"""AdaDiffSR: every region of a picture gets only the timesteps it needs.

`sampler` is the loop over regions, `regions` what it works on, `base_grid` the noise levels they
may visit. `information_gain` tells what a region gained (`trained_gain` by a network, which
`quality_maps` trains), `step_policy` how many steps it may skip, `injection` how it is held to the
degraded picture. `calibration` measures one prior's spans, `report` tells what a run cost.
"""
