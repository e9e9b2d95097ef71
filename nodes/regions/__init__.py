"""Region-adaptive sampling (AdaDiffSR): the sampler, its policy, injection and regressor."""
