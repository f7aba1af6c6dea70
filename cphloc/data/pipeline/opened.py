"""Open an image for a model: prepared in slabs, or whole where the preparation needs all of it."""

from __future__ import annotations

from cphloc.data.pipeline.monai import MonaiImage, MonaiPreprocess
from cphloc.data.pipeline.nnunet import NnUNetImage, NnUNetPreprocess
from cphloc.data.pipeline.preprocess import Preprocess
from cphloc.data.pipeline.slabs import Slabs
from cphloc.structures.volume import Volume


def opened(preprocess: Preprocess, volume: Volume) -> Slabs | NnUNetImage | MonaiImage:
    """Prepare an image for a model.

    Args:
        preprocess: preparation of the model.
        volume: the original image.
    """
    if isinstance(preprocess, MonaiPreprocess):
        return MonaiImage(preprocess, volume)
    return NnUNetImage(preprocess, volume) if isinstance(preprocess, NnUNetPreprocess) else Slabs(preprocess, volume)
