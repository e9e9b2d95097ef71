"""A larger noise predictor that does, to begin with, what a smaller one did.

New channels are read by no old one (`widening.py`); new blocks add nothing, since the convolution
that ends them starts from zeros.
"""

from __future__ import annotations

from ..models.pixel_predictor import PixelPredictorNetwork
from .widening import continue_from


def grown(
    network: PixelPredictorNetwork, widths: tuple[int, ...], blocks: int
) -> PixelPredictorNetwork:
    """A network of `widths` and `blocks` a resolution with the outputs of `network`.

    Raises `ValueError` where there are fewer channels or blocks, or another number of resolutions.
    """
    old = (*(group[0].a.out_channels for group in network.enc), network.mid[0].a.out_channels)  # type: ignore[index]
    if len(widths) != len(old) or any(new < now for new, now in zip(widths, old, strict=True)) or (
        blocks < len(network.mid)
    ):
        raise ValueError(
            f"The predictor has {','.join(map(str, old))} channels and {len(network.mid)} blocks "
            f"each and cannot become {','.join(map(str, widths))} with {blocks}; give as many "
            "numbers, none of them smaller."
        )
    larger = PixelPredictorNetwork(widths, blocks, network.level[2].out_features)  # type: ignore[arg-type]
    continue_from(larger, network)
    return larger
