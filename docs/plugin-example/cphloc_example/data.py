"""A data set, an intensity scheme and a transform."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from cphloc import paths
from cphloc.config.argument_types import PositiveInt, UnitInterval
from cphloc.data.case import AnnotationSource, Case
from cphloc.data.dataset import Dataset
from cphloc.data.pipeline.intensity import Intensity, Range
from cphloc.structures.split import Split

CASES: dict[Split, int] = {"train": 4, "val": 2, "test": 2}


class Discs(Dataset):
    """Pictures with one bright disc each, drawn where they are missing.

    Args:
        root: folder for the pictures; by default in the cache.
        size: edge of a picture in pixels.
    """

    dims = 2
    channels = ("brightness",)

    def __init__(self, root: str | None = None, size: PositiveInt = 64) -> None:
        self.root = Path(root) if root is not None else paths.cache() / "data" / "example_discs"
        self.classes = {1: "disc"}
        self.size = size

    def _cases(self, split: Split) -> list[Case]:
        return [self._case(f"{split}-{number}-{self.size}", number) for number in range(CASES[split])]

    def _case(self, name: str, seed: int) -> Case:
        image, mask = (self.root / f"{name}-{part}.npy" for part in ("image", "mask"))
        if not mask.is_file():
            self.root.mkdir(parents=True, exist_ok=True)
            rng = np.random.default_rng([seed, len(name)])
            centre, axes = rng.uniform(0.3, 0.7, 2) * self.size, np.mgrid[: self.size, : self.size]
            disc = ((axes - centre[:, None, None]) ** 2).sum(0) < (0.2 * self.size) ** 2
            np.save(image, (disc + rng.normal(0, 0.3, disc.shape)).astype(np.float32))
            np.save(mask, disc.astype(np.uint8))
        return Case(name, patient=name, images=(image,), annotation=AnnotationSource(mask=mask), spacing_mm=(1.0, 1.0))


@dataclass(frozen=True)
class Rank(Intensity):
    """``example_rank``: the share of the image's voxels that are darker.

    Args:
        gamma: exponent on the share.
    """

    type: ClassVar[str] = "example_rank"
    gamma: float = 1.0

    @property
    def local(self) -> bool:
        """False: a voxel's rank depends on the rest of its image."""
        return False

    def __call__(self, values: np.ndarray, window: Range | None = None) -> np.ndarray:
        """Transform one channel ``(*S)``."""
        rank = np.searchsorted(np.sort(values.ravel()), values.ravel()) / max(values.size - 1, 1)
        return (rank.reshape(values.shape) ** self.gamma).astype(np.float32)


class Invert:
    """Swap dark and bright.

    Args:
        p: probability.
    """

    def __init__(self, p: UnitInterval = 0.5) -> None:
        self.p = p

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Transform a patch ``(C, *S)``."""
        return image.min() + image.max() - image
