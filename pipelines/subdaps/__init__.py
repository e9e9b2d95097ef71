"""SubDAPS++: posterior sampling at dynamic resolution, for a known degradation.

`sampler` is the loop, in the paper's order; `switch` says when it stops adding noise, `complement`
what noise a step adds, `corrector` recombines the predictions of a run, and `apart` runs samples
one by one where a batch would change them.
"""
