"""The menu: every node class, in one explicit list. Ids never change once released.

Rooms: `posterior`, `regions` and `inversion` are the three methods, `degradation` what a picture
may have suffered, `photograph` what is found in one, `comfyui` all that asks ComfyUI for anything.
Every node of the list runs outside of its inference mode (`wall`).
"""

from .colors import MatchColors
from .comfyui import image_compare
from .comfyui.prior_from_guider import PriorFromGuider
from .comfyui.wall import walled
from .degradation.blurs import GaussianBlurNode, KernelBlurNode, MotionBlurNode, NonlinearBlurNode
from .degradation.measurement import (
    BoxMaskNode,
    DegradeImage,
    EstimateNoiseLevel,
    MeasurementFromImage,
    RandomMaskNode,
)
from .degradation.operators import OPERATOR_NODES, ComposeNode, InpaintingMaskNode
from .degradation.real_world import RealWorldDegradationNode
from .inversion.predictor import InversionSigmas, LoadNoisePredictor, PredictedNoiseNode
from .inversion.sampler import InversionSampler
from .latents import DecodeWithPrior
from .photograph.blur_kernel import EstimateBlurKernel
from .photograph.denoising import Denoise
from .photograph.jpeg_quality import EstimateJPEGQuality
from .photograph.retouching import FillFromSurroundings, FindScratches, MatchGrain
from .posterior.posterior_statistics import PosteriorStatistics
from .posterior.sampler import PosteriorSampler
from .posterior.trajectory import TrajectoryCorrector, TrajectoryPreview
from .posterior.updates import (
    ConjugateGradientUpdate,
    DeterministicSwitch,
    GradientUpdate,
    LangevinUpdate,
)
from .prior_errors import MeasurePriorError
from .priors import LoadDiffusersPrior, LoadPixelPrior, MultiResolution
from .regions.calibration import CalibrateRegions
from .regions.injection import FeatureInjectionNode, LoadFeatureInjection
from .regions.policy import StepPolicyNode
from .regions.regressor import LoadRegionEntropyRegressor
from .regions.sampler import RegionAdaptiveSampler
from .regions.stablesr import StableSRModule
from .regions.stock_sampler import RegionAdaptiveSamplerStock
from .scores import MeasurementConsistency, ScoreRestoration
from .tiles import TiledPriorNode, TileSplitter, TileStitcher

NODES: dict[str, tuple[type, str]] = {
    "UndegradeLoadPixelPrior": (LoadPixelPrior, "Load Pixel Prior"),
    "UndegradeLoadDiffusersPrior": (LoadDiffusersPrior, "Load Diffusers Prior"),
    "UndegradePriorFromGuider": (PriorFromGuider, "Prior From Guider"),
    "UndegradeMultiResolutionPrior": (MultiResolution, "Multi-Resolution Prior"),
    "UndegradeTiledPrior": (TiledPriorNode, "Tiled Prior"),
    **OPERATOR_NODES,
    "UndegradeGaussianBlur": (GaussianBlurNode, "Gaussian Blur"),
    "UndegradeMotionBlur": (MotionBlurNode, "Motion Blur"),
    "UndegradeKernelBlur": (KernelBlurNode, "Kernel Blur"),
    "UndegradeEstimateBlurKernel": (EstimateBlurKernel, "Estimate Blur Kernel"),
    "UndegradeInpaintingMask": (InpaintingMaskNode, "Inpainting Mask"),
    "UndegradeNonlinearBlur": (NonlinearBlurNode, "Nonlinear Blur"),
    "UndegradeEstimateJPEGQuality": (EstimateJPEGQuality, "Estimate JPEG Quality"),
    "UndegradeComposeOperators": (ComposeNode, "Compose Operators"),
    "UndegradeRandomMask": (RandomMaskNode, "Random Mask"),
    "UndegradeBoxMask": (BoxMaskNode, "Box Mask"),
    "UndegradeDegradeImage": (DegradeImage, "Degrade Image"),
    "UndegradeMeasurementFromImage": (MeasurementFromImage, "Measurement From Image"),
    "UndegradeEstimateNoiseLevel": (EstimateNoiseLevel, "Estimate Noise Level"),
    "UndegradeRealWorldDegradation": (RealWorldDegradationNode, "Real-World Degradation"),
    "UndegradeCGMeasurementUpdate": (ConjugateGradientUpdate, "CG Measurement Update"),
    "UndegradeLangevinMeasurementUpdate": (LangevinUpdate, "Langevin Measurement Update"),
    "UndegradeGradientMeasurementUpdate": (GradientUpdate, "Gradient Measurement Update"),
    "UndegradeDeterministicSwitch": (DeterministicSwitch, "Deterministic Switch"),
    "UndegradePosteriorSampler": (PosteriorSampler, "Posterior Sampler"),
    "UndegradeTrajectoryCorrector": (TrajectoryCorrector, "Trajectory Corrector"),
    "UndegradeTrajectoryPreview": (TrajectoryPreview, "Trajectory Preview"),
    "UndegradePosteriorStatistics": (PosteriorStatistics, "Posterior Statistics"),
    "UndegradeTileSplitter": (TileSplitter, "Tile Splitter"),
    "UndegradeTileStitcher": (TileStitcher, "Tile Stitcher"),
    "UndegradeDecodeWithPrior": (DecodeWithPrior, "Decode With Prior"),
    "UndegradeInversionSampler": (InversionSampler, "Inversion Sampler"),
    "UndegradeCalibrateRegions": (CalibrateRegions, "Calibrate Regions"),
    "UndegradeLoadRegionEntropyRegressor": (
        LoadRegionEntropyRegressor,
        "Load Region Entropy Regressor",
    ),
    "UndegradeStepPolicy": (StepPolicyNode, "Step Policy"),
    "UndegradeFeatureInjection": (FeatureInjectionNode, "Feature Injection"),
    "UndegradeRegionAdaptiveSampler": (RegionAdaptiveSampler, "Region-Adaptive Sampler"),
    "UndegradeRegionAdaptiveSamplerStock": (
        RegionAdaptiveSamplerStock,
        "Region-Adaptive Sampler (stock)",
    ),
    "UndegradeStableSRModule": (StableSRModule, "StableSR Module"),
    "UndegradeLoadFeatureInjection": (LoadFeatureInjection, "Load Feature Injection"),
    "UndegradeMatchColors": (MatchColors, "Match Colors"),
    "UndegradeLoadNoisePredictor": (LoadNoisePredictor, "Load Noise Predictor"),
    "UndegradePredictedNoise": (PredictedNoiseNode, "Predicted Noise"),
    "UndegradeInversionSigmas": (InversionSigmas, "Inversion Sigmas"),
    "UndegradeDenoise": (Denoise, "Denoise"),
    "UndegradeFindScratches": (FindScratches, "Find Scratches"),
    "UndegradeFillFromSurroundings": (FillFromSurroundings, "Fill From Surroundings"),
    "UndegradeMatchGrain": (MatchGrain, "Match Grain"),
    "UndegradeMeasurePriorError": (MeasurePriorError, "Measure Prior Error"),
    "UndegradeMeasurementConsistency": (MeasurementConsistency, "Measurement Consistency"),
    "UndegradeScoreRestoration": (ScoreRestoration, "Score Restoration"),
}

MENU = NODES | image_compare.lacking()
NODE_CLASS_MAPPINGS = {node_id: walled(cls) for node_id, (cls, _) in MENU.items()}
NODE_DISPLAY_NAME_MAPPINGS = {node_id: title for node_id, (_, title) in MENU.items()}
