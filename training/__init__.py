"""Trains the networks of the pack, the shipped ones and yours.

=====================  ==================================================================
``synthetic``          pictures drawn from a seed
``photographs``        the photographs that the shipped prior saw beside them, from their originals
``data``               samples: crops of such canvases or of your folder, and degraded pairs
``loop``               the one training loop, on accelerate: resume, average, validation
``noise_predictor``    trains the starting noise of Inversion Sampler for a pixel prior
``prior``              trains or fine-tunes a pixel prior at three resolutions
``widening``           gives a small prior more channels without changing what it does
``regions``            trains the region entropy regressor of Region-Adaptive Sampler
``records``            what regions go through under a prior, for that
``no_reference``       picture quality by MUSIQ and BRISQUE, for that, where you have pyiqa
``feature_injection``  trains feature injection at StableSR's maps
``injection_loss``     what that is trained to do
=====================  ==================================================================

    python training noise_predictor --out runs/predictor
    accelerate launch training/__main__.py noise_predictor --out runs/predictor
"""
