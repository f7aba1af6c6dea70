"""What lies beyond the edge of an image that is smaller than the patch."""

from __future__ import annotations

from typing import Literal

Fill = Literal["zero", "edge"]
"""Values beyond the edge: 0, after intensity scaling; or those of the outermost voxels."""

Pad = Literal["zero", "edge", "zero_then_edge"]
"""Field ``data.pad`` of a recipe.

``zero_then_edge`` pads with 0 in training and with edge values in prediction, as recipes of format 1 did.
"""


def training_fill(pad: Pad) -> Fill:
    """Return how training patches are padded.

    >>> training_fill("zero_then_edge")
    'zero'
    """
    return "zero" if pad == "zero_then_edge" else pad


def prediction_fill(pad: Pad) -> Fill:
    """Return how images are padded in validation and prediction.

    >>> prediction_fill("zero_then_edge")
    'edge'
    """
    return "edge" if pad == "zero_then_edge" else pad
