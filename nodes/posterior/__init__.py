"""Posterior sampling (SubDAPS++): the sampler, its updates and switch, and what it leaves."""
