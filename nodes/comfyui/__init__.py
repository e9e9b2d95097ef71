"""The one room that knows ComfyUI: what its nodes ask of it, and its models, VAEs, conditioning and
samplers as this pack's priors, codecs and regions see them.

`host` asks ComfyUI for devices, folders, progress and interrupts, `wall` takes every node out of
its inference mode. All else works without ComfyUI.
"""
