"""The menu: every node class, in one explicit list. Ids never change once released.

Every node of the list runs outside of ComfyUI's inference mode (`wall`).
"""

from . import colors, interop, latents, priors, scores, tiles
from .comfyui import image_compare
from .comfyui.wall import walled
from .degradation import blurs, measurement, operators, real_world
from .inversion import predictor
from .inversion import sampler as inversion_sampler
from .photograph import blur_kernel, denoising, jpeg_quality, retouching
from .posterior import sampler as sampling
from .posterior import trajectory, updates
from .regions import calibration, regressor, sampler, stablesr, stock_sampler, trained_injection

NODES: dict[str, tuple[type, str]] = {
    "UndegradeLoadPixelPrior": (priors.LoadPixelPrior, "Load Pixel Prior"),
    "UndegradeLoadDiffusersPrior": (priors.LoadDiffusersPrior, "Load Diffusers Prior"),
    "UndegradePriorFromGuider": (interop.PriorFromGuider, "Prior From Guider"),
    "UndegradeMultiResolutionPrior": (priors.MultiResolution, "Multi-Resolution Prior"),
    "UndegradeTiledPrior": (tiles.TiledPriorNode, "Tiled Prior"),
    "UndegradeDownscale": (operators.DownscaleNode, "Downscale"),
    "UndegradeGaussianBlur": (blurs.GaussianBlurNode, "Gaussian Blur"),
    "UndegradeMotionBlur": (blurs.MotionBlurNode, "Motion Blur"),
    "UndegradeKernelBlur": (blurs.KernelBlurNode, "Kernel Blur"),
    "UndegradeEstimateBlurKernel": (blur_kernel.EstimateBlurKernel, "Estimate Blur Kernel"),
    "UndegradeInpaintingMask": (operators.InpaintingMaskNode, "Inpainting Mask"),
    "UndegradeHDRClip": (operators.HDRClipNode, "HDR Clip"),
    "UndegradeNonlinearBlur": (blurs.NonlinearBlurNode, "Nonlinear Blur"),
    "UndegradePhaseRetrieval": (operators.PhaseRetrievalNode, "Phase Retrieval"),
    "UndegradeJPEG": (operators.JPEGNode, "JPEG"),
    "UndegradeEstimateJPEGQuality": (jpeg_quality.EstimateJPEGQuality, "Estimate JPEG Quality"),
    "UndegradeComposeOperators": (operators.ComposeNode, "Compose Operators"),
    "UndegradeRandomMask": (measurement.RandomMaskNode, "Random Mask"),
    "UndegradeBoxMask": (measurement.BoxMaskNode, "Box Mask"),
    "UndegradeDegradeImage": (measurement.DegradeImage, "Degrade Image"),
    "UndegradeMeasurementFromImage": (measurement.MeasurementFromImage, "Measurement From Image"),
    "UndegradeEstimateNoiseLevel": (measurement.EstimateNoiseLevel, "Estimate Noise Level"),
    "UndegradeRealWorldDegradation": (
        real_world.RealWorldDegradationNode,
        "Real-World Degradation",
    ),
    "UndegradeCGMeasurementUpdate": (updates.ConjugateGradientUpdate, "CG Measurement Update"),
    "UndegradeLangevinMeasurementUpdate": (updates.LangevinUpdate, "Langevin Measurement Update"),
    "UndegradeGradientMeasurementUpdate": (updates.GradientUpdate, "Gradient Measurement Update"),
    "UndegradeDeterministicSwitch": (updates.DeterministicSwitch, "Deterministic Switch"),
    "UndegradePosteriorSampler": (sampling.PosteriorSampler, "Posterior Sampler"),
    "UndegradeTrajectoryCorrector": (trajectory.TrajectoryCorrector, "Trajectory Corrector"),
    "UndegradeTrajectoryPreview": (trajectory.TrajectoryPreview, "Trajectory Preview"),
    "UndegradePosteriorStatistics": (trajectory.PosteriorStatistics, "Posterior Statistics"),
    "UndegradeTileSplitter": (tiles.TileSplitter, "Tile Splitter"),
    "UndegradeTileStitcher": (tiles.TileStitcher, "Tile Stitcher"),
    "UndegradeDecodeWithPrior": (latents.DecodeWithPrior, "Decode With Prior"),
    "UndegradeInversionSampler": (inversion_sampler.InversionSampler, "Inversion Sampler"),
    "UndegradeCalibrateRegions": (calibration.CalibrateRegions, "Calibrate Regions"),
    "UndegradeLoadRegionEntropyRegressor": (
        regressor.LoadRegionEntropyRegressor,
        "Load Region Entropy Regressor",
    ),
    "UndegradeStepPolicy": (sampler.StepPolicyNode, "Step Policy"),
    "UndegradeFeatureInjection": (sampler.FeatureInjectionNode, "Feature Injection"),
    "UndegradeRegionAdaptiveSampler": (
        sampler.RegionAdaptiveSampler,
        "Region-Adaptive Sampler",
    ),
    "UndegradeRegionAdaptiveSamplerStock": (
        stock_sampler.RegionAdaptiveSamplerStock,
        "Region-Adaptive Sampler (stock)",
    ),
    "UndegradeStableSRModule": (stablesr.StableSRModule, "StableSR Module"),
    "UndegradeLoadFeatureInjection": (
        trained_injection.LoadFeatureInjection,
        "Load Feature Injection",
    ),
    "UndegradeMatchColors": (colors.MatchColors, "Match Colors"),
    "UndegradeLoadNoisePredictor": (predictor.LoadNoisePredictor, "Load Noise Predictor"),
    "UndegradePredictedNoise": (predictor.PredictedNoiseNode, "Predicted Noise"),
    "UndegradeInversionSigmas": (predictor.InversionSigmas, "Inversion Sigmas"),
    "UndegradeDenoise": (denoising.Denoise, "Denoise"),
    "UndegradeFindScratches": (retouching.FindScratches, "Find Scratches"),
    "UndegradeMatchGrain": (retouching.MatchGrain, "Match Grain"),
    "UndegradeMeasurementConsistency": (scores.MeasurementConsistency, "Measurement Consistency"),
    "UndegradeScoreRestoration": (scores.ScoreRestoration, "Score Restoration"),
}

MENU = NODES | image_compare.lacking()
NODE_CLASS_MAPPINGS = {node_id: walled(cls) for node_id, (cls, _) in MENU.items()}
NODE_DISPLAY_NAME_MAPPINGS = {node_id: title for node_id, (_, title) in MENU.items()}
