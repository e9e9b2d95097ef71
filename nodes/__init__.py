"""The menu: every node class, in one explicit list. Ids never change once released."""

from . import inspect, measurement, operators, priors, sampling, updates

NODES: dict[str, tuple[type, str]] = {
    "UndegradeLoadPixelPrior": (priors.LoadPixelPrior, "Load Pixel Prior"),
    "UndegradeMultiResolutionPrior": (priors.MultiResolution, "Multi-Resolution Prior"),
    "UndegradeDownscale": (operators.DownscaleNode, "Downscale"),
    "UndegradeGaussianBlur": (operators.GaussianBlurNode, "Gaussian Blur"),
    "UndegradeMotionBlur": (operators.MotionBlurNode, "Motion Blur"),
    "UndegradeKernelBlur": (operators.KernelBlurNode, "Kernel Blur"),
    "UndegradeInpaintingMask": (operators.InpaintingMaskNode, "Inpainting Mask"),
    "UndegradeHDRClip": (operators.HDRClipNode, "HDR Clip"),
    "UndegradeNonlinearBlur": (operators.NonlinearBlurNode, "Nonlinear Blur"),
    "UndegradePhaseRetrieval": (operators.PhaseRetrievalNode, "Phase Retrieval"),
    "UndegradeJPEG": (operators.JPEGNode, "JPEG"),
    "UndegradeComposeOperators": (operators.ComposeNode, "Compose Operators"),
    "UndegradeRandomMask": (measurement.RandomMaskNode, "Random Mask"),
    "UndegradeBoxMask": (measurement.BoxMaskNode, "Box Mask"),
    "UndegradeDegradeImage": (measurement.DegradeImage, "Degrade Image"),
    "UndegradeMeasurementFromImage": (measurement.MeasurementFromImage, "Measurement From Image"),
    "UndegradeEstimateNoiseLevel": (measurement.EstimateNoiseLevel, "Estimate Noise Level"),
    "UndegradeCGMeasurementUpdate": (updates.ConjugateGradientUpdate, "CG Measurement Update"),
    "UndegradeLangevinMeasurementUpdate": (updates.LangevinUpdate, "Langevin Measurement Update"),
    "UndegradeGradientMeasurementUpdate": (updates.GradientUpdate, "Gradient Measurement Update"),
    "UndegradeDeterministicSwitch": (updates.DeterministicSwitch, "Deterministic Switch"),
    "UndegradePosteriorSampler": (sampling.PosteriorSampler, "Posterior Sampler"),
    "UndegradeTrajectoryCorrector": (sampling.TrajectoryCorrector, "Trajectory Corrector"),
    "UndegradeTrajectoryPreview": (sampling.TrajectoryPreview, "Trajectory Preview"),
    "UndegradePosteriorStatistics": (sampling.PosteriorStatistics, "Posterior Statistics"),
    "UndegradeMeasurementConsistency": (inspect.MeasurementConsistency, "Measurement Consistency"),
    "UndegradeScoreRestoration": (inspect.ScoreRestoration, "Score Restoration"),
}

NODE_CLASS_MAPPINGS = {node_id: cls for node_id, (cls, _) in NODES.items()}
NODE_DISPLAY_NAME_MAPPINGS = {node_id: title for node_id, (_, title) in NODES.items()}
