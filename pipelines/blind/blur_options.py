"""What a user says of a blur before it is looked for."""

from __future__ import annotations

from dataclasses import dataclass

from ..options import Options, option

KINDS = ("any", "straight motion", "out of focus", "Gaussian")


@dataclass(frozen=True)
class BlurOptions(Options):
    """What is asked of the blur."""

    kind: str = option(
        "any",
        "'any' finds every kernel, such as a shaken hand's; the others look for fewer numbers, and "
        "are surer where you know what happened: a line, a disc, a Gaussian.",
        choices=KINDS,
    )
    kernel_size: int = option(
        31,
        "The largest kernel in pixels, odd: somewhat more than the longest streak that a point "
        "makes. Larger takes longer and is less sure.",
        min=3,
        max=101,
        step=2,
    )
    noise_level: float = option(
        0.0,
        "Standard deviation of the picture's noise, with pixels from -1 to 1; 0 estimates it.",
        min=0.0,
        max=2.0,
        step=0.005,
    )
    refine: int = option(
        4,
        "How often the kernel is refined by a picture that the prior restores with it, at most. A "
        "round is kept where it explains the picture better; of a path that was searched the first "
        "two unless they explain clearly less. 0 leaves what the search found.",
        min=0,
        max=20,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kernel_size % 2 == 0:
            raise ValueError(
                f"kernel_size is {self.kernel_size}; give an odd number such as "
                f"{self.kernel_size + 1}, so that the kernel has a centre."
            )
