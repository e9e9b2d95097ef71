"""The algorithms: pure torch, no ComfyUI, no checkpoints; one paper, one file."""
