"""The menu: every node class, in one explicit list. Ids never change once released."""

from . import blurs, inspect, measurement, operators, priors, sampling, trajectory, updates

NODES: dict[str, tuple[type, str]] = {
    "UndegradeLoadPixelPrior": (priors.LoadPixelPrior, "Load Pixel Prior"),
    "UndegradeMultiResolutionPrior": (priors.MultiResolution, "Multi-Resolution Prior"),
    "UndegradeDownscale": (operators.DownscaleNode, "Downscale"),
    "UndegradeGaussianBlur": (blurs.GaussianBlurNode, "Gaussian Blur"),
    "UndegradeMotionBlur": (blurs.MotionBlurNode, "Motion Blur"),
    "UndegradeKernelBlur": (blurs.KernelBlurNode, "Kernel Blur"),
    "UndegradeInpaintingMask": (operators.InpaintingMaskNode, "Inpainting Mask"),
    "UndegradeHDRClip": (operators.HDRClipNode, "HDR Clip"),
    "UndegradeNonlinearBlur": (blurs.NonlinearBlurNode, "Nonlinear Blur"),
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
    "UndegradeTrajectoryCorrector": (trajectory.TrajectoryCorrector, "Trajectory Corrector"),
    "UndegradeTrajectoryPreview": (trajectory.TrajectoryPreview, "Trajectory Preview"),
    "UndegradePosteriorStatistics": (trajectory.PosteriorStatistics, "Posterior Statistics"),
    "UndegradeMeasurementConsistency": (inspect.MeasurementConsistency, "Measurement Consistency"),
    "UndegradeScoreRestoration": (inspect.ScoreRestoration, "Score Restoration"),
}

NODE_CLASS_MAPPINGS = {node_id: cls for node_id, (cls, _) in NODES.items()}
NODE_DISPLAY_NAME_MAPPINGS = {node_id: title for node_id, (_, title) in NODES.items()}
