"""Diffusion inversion (InvSR): the noise predictor, its noise, its levels and the sampler."""
