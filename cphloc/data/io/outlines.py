"""Outlines of objects in pictures: polygons, and COCO's run-length encoding (RLE)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cphloc.errors import DataError, needs

_FAR = 10
"""Sizes of the picture beyond which no point of a polygon may lie; drawing takes time and memory for its length."""


@dataclass(frozen=True)
class Outline:
    """The pixels of one object.

    Args:
        polygons: its parts, each ``(x0, y0, x1, y1, ...)`` in pixel edges, which are united.
        counts: instead of polygons, run lengths in column order, beginning with background; or the same as compressed
            text.
        size: ``(H, W)`` of the picture to which ``counts`` refer.
    """

    polygons: tuple[tuple[float, ...], ...] = ()
    counts: tuple[int, ...] | str | None = None
    size: tuple[int, int] | None = None

    def scaled(self, shape: tuple[int, int]) -> Outline:
        """Convert polygons in fractions of the picture to pixels of a picture of ``shape`` (H, W)."""
        factors = (shape[1], shape[0])
        polygons = tuple(tuple(v * factors[k % 2] for k, v in enumerate(p)) for p in self.polygons)
        return Outline(polygons, self.counts, self.size)

    def draw(self, shape: tuple[int, int]) -> np.ndarray:
        """Draw the object as ``(H, W)`` bool, exactly as the COCO tools do.

        Raises:
            DataError: the run lengths are of a picture of another size, or damaged; a polygon leads far out of the
                picture.
        """
        if any(np.abs(p).max(initial=0) > _FAR * max(shape) for p in self.polygons):
            msg = f"a polygon of its segmentation leads far out of the picture of {shape[0]} x {shape[1]} pixels"
            raise DataError(msg)
        try:
            return self._drawn(shape)
        except (ValueError, RuntimeError, TypeError, OverflowError) as error:
            if isinstance(error, DataError):
                raise
            msg = f"its segmentation is damaged ({str(error).splitlines()[0][:100]})"
            raise DataError(msg) from error

    def _drawn(self, shape: tuple[int, int]) -> np.ndarray:
        with needs("an outline of COCO"):
            from faster_coco_eval.core import mask as coco

        if self.counts is None:
            parts = coco.frPyObjects([list(p) for p in self.polygons], *shape)
            merged = coco.merge(parts)  # pyright: ignore[reportArgumentType]  # a list for a list of polygons
            return coco.decode(merged).astype(bool)
        if self.size != shape:
            msg = f"its run lengths are of a picture of {self.size}, the picture has {shape} pixels"
            raise DataError(msg)
        if isinstance(self.counts, str):
            encoded = {"size": list(shape), "counts": self.counts.encode()}
        elif min(self.counts) >= 0 and sum(self.counts) == shape[0] * shape[1]:
            encoded = coco.frPyObjects({"size": list(shape), "counts": list(self.counts)}, *shape)
        else:
            msg = f"its run lengths add up to {sum(self.counts)} of {shape[0] * shape[1]} pixels"
            raise DataError(msg)
        return coco.decode(encoded).astype(bool)  # pyright: ignore[reportArgumentType]  # its stub wants lists


def coco_outline(segmentation: Any) -> Outline | None:
    """Convert the ``segmentation`` of a COCO annotation; ``None`` where it is empty.

    Raises:
        DataError: it is neither a list of polygons of at least three points nor RLE.
    """
    if not segmentation:
        return None
    try:
        if isinstance(segmentation, Mapping):
            counts, (height, width) = segmentation["counts"], segmentation["size"]
            stated = counts if isinstance(counts, str) else tuple(map(int, counts))
            return Outline(counts=stated, size=(int(height), int(width)))
        polygons = segmentation if isinstance(segmentation[0], Sequence) else [segmentation]
        outline = Outline(tuple(tuple(map(float, p)) for p in polygons))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        msg = f"its segmentation is neither polygons nor RLE ({error!r})"
        raise DataError(msg) from error
    if any(len(p) < 6 or len(p) % 2 or not np.isfinite(p).all() for p in outline.polygons):
        msg = "a polygon of its segmentation is not three or more points x, y"
        raise DataError(msg)
    return outline
