"""What a photograph suffered, read off its own pixels, and what needs no more than that.

`noise_level`, `noise_curve` and `noise_bands` measure noise (`bands`: at several scales),
`jpeg_quality` finds how it was coded, `scratches` where it is scratched. `denoising` removes noise
with a prior, `grain` gives a filled place the grain around it. A blur that nobody knows has a
folder of its own, `blind`.
"""
