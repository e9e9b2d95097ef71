"""How many steps each region gets."""

from ...pipelines.adadiffsr.step_policy import StepPolicy
from ..widgets import options_node

CATEGORY = "Undegrade/regions"

StepPolicyNode = options_node(
    StepPolicy,
    {
        "CATEGORY": CATEGORY,
        "RETURN_TYPES": ("STEP_POLICY",),
        "RETURN_NAMES": ("policy",),
        "OUTPUT_TOOLTIPS": ("How many steps each region gets.",),
    },
    "Says how many of the base grid's steps each region may skip, and when it is done (AdaDiffSR). "
    "Use it to choose the paper's classes, another error budget, or adaptive start.",
    "AdaDiffSR",
    "adaptive steps",
    "early exit",
    "skip steps",
)
