"""Nodes that choose how a prediction is moved towards the measurement, and when noise ends."""

from __future__ import annotations

from typing import Any

from ...pipelines.subdaps.switch import FixedThreshold, NoiseFloor, SwitchRule, never
from ...pipelines.updates.conjugate_gradient import ConjugateGradient
from ...pipelines.updates.gradient import LikelihoodGradient
from ...pipelines.updates.langevin import Langevin
from ..widgets import options_node, widgets_of

CATEGORY = "Undegrade/posterior"
SHARED = {
    "CATEGORY": CATEGORY,
    "RETURN_TYPES": ("MEASUREMENT_UPDATE",),
    "RETURN_NAMES": ("update",),
    "OUTPUT_TOOLTIPS": ("How the sampler moves its predictions towards the measurement.",),
}

ConjugateGradientUpdate = options_node(
    ConjugateGradient,
    SHARED,
    "Moves every prediction to the most probable picture given the measurement, by conjugate "
    "gradients (SubDAPS++): argmin 1/2 |y - A(z)|^2 + rho/2 |z - x0_hat|^2. What the sampler "
    "uses when no update is connected.",
    "data consistency",
    "CG",
    "SubDAPS++",
    "proximal",
)
LangevinUpdate = options_node(
    Langevin,
    SHARED,
    "Draws every prediction from its neighbourhood given the measurement, by Langevin dynamics "
    "(DAPS, SubDAPS). Slower than conjugate gradients, and it works for any operator, phase "
    "retrieval too.",
    "data consistency",
    "DAPS",
    "MCMC",
    "SubDAPS",
)
GradientUpdate = options_node(
    LikelihoodGradient,
    SHARED,
    "Follows the likelihood's gradient back through the network (DPS, SubDPS), with DDPM's "
    "ancestral steps. Needs several hundred steps and the memory of a backward pass.",
    "DPS",
    "diffusion posterior sampling",
    "guidance",
    "SubDPS",
)


class DeterministicSwitch:
    """Widgets -> SWITCH_RULE."""

    DESCRIPTION = (
        "Says when the sampler stops adding noise (SubDAPS++): once the measurement hardly moves "
        "the prediction. 'fixed threshold' is the paper's, tuned per task; 'noise floor' compares "
        "the move with what the measurement's noise alone would cause and needs no tuning; "
        "'never' is SubDAPS and DAPS, and what the sampler does when no switch is connected."
    )
    SEARCH_ALIASES = ("SubDAPS++", "stochastic to deterministic", "tau", "DDIM")
    CATEGORY = CATEGORY
    FUNCTION = "make"
    RETURN_TYPES = ("SWITCH_RULE",)
    RETURN_NAMES = ("switch",)
    OUTPUT_TOOLTIPS = ("When the sampler becomes deterministic.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The widgets."""
        rule = (
            ["fixed threshold", "noise floor", "never"],
            {"default": "fixed threshold", "tooltip": "Which of the numbers below decides."},
        )
        return {"required": {"rule": rule, **widgets_of(FixedThreshold), **widgets_of(NoiseFloor)}}

    def make(self, rule: str, threshold: float, ratio: float) -> tuple[SwitchRule]:
        """The rule."""
        rules = {
            "fixed threshold": FixedThreshold(threshold),
            "noise floor": NoiseFloor(ratio),
            "never": never,
        }
        return (rules[rule],)
