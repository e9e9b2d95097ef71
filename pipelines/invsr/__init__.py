"""InvSR: super-resolution in one to five steps, from a start whose noise is predicted.

`start_noise` predicts and draws that noise, `steps` chooses the noise levels, `sampler` runs them.
"""
