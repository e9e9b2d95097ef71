"""Blind deconvolution: which kernel blurred a picture, found with the prior itself."""
