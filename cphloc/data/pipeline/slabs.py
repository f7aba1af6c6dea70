"""Preprocess large images and restore their masks in slabs of rows, to limit the memory that is needed.

A row is an index along the first spatial axis, that is, a slice in 3-D. In canonical order, the axes of the image and
of the preprocessed grid are parallel, so each row of one depends on only a few rows of the other. The results equal
those of processing the whole image at once.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cphloc.data.io.resample import resample, source_rows
from cphloc.data.pipeline.preprocess import Preprocess, restore_map
from cphloc.ops.regions import painted, region_logits
from cphloc.structures.geometry import Geometry
from cphloc.structures.volume import Volume, reoriented_back


class Slabs:
    """Lazily preprocessed image; ``slabs[:, :, first:stop]`` computes only the requested rows.

    Where an intensity scheme needs statistics of the whole image (``zscore``), the whole image is preprocessed at once
    and kept in memory.

    Args:
        preprocess: preprocessing to apply.
        volume: the original image.

    >>> from cphloc.data.pipeline.intensity import parse_intensity
    >>> volume = Volume(np.ones((1, 10, 4, 4)), Geometry.regular((10, 4, 4), (2.0, 1.0, 1.0)))
    >>> slabs = Slabs(Preprocess(3, (1.0, 1.0, 1.0), parse_intensity("none", 1)), volume)
    >>> slabs.shape, slabs[:, :, 5:9].shape
    ((1, 1, 20, 4, 4), torch.Size([1, 1, 4, 4, 4]))
    """

    def __init__(self, preprocess: Preprocess, volume: Volume) -> None:
        self.preprocess = preprocess
        self.geometry = preprocess.frame(volume.geometry, volume.source)
        self.shape = (1, len(preprocess.intensity), *self.geometry.shape)
        self.original, self.volume = volume.geometry, volume.canonical()
        local = all(scheme.local for scheme in preprocess.intensity)
        self.whole = None if local else torch.as_tensor(preprocess(volume).array)[None]
        self.first, self.held = 0, np.zeros((self.shape[1], 0, *self.shape[3:]), np.float32)

    def __getitem__(self, key: tuple[slice, slice, slice]) -> Tensor:
        """Return rows ``(1, C, rows, *S[1:])`` float32; rows computed for the previous request are reused."""
        if self.whole is not None:
            return self.whole[key]
        first, stop, _ = key[2].indices(self.shape[2])
        known = self.first + self.held.shape[1]
        kept = self.held[:, first - self.first :] if self.first <= first < known else self.held[:, :0]
        self.held = np.concatenate([kept, self._prepared(first + kept.shape[1], stop)], axis=1)
        self.first = first
        return torch.from_numpy(self.held)[None]

    def mask_rows(self, threshold: float | None = None, regions: bool = False) -> MaskRows:
        """Return a collector of the logits of a mask, see `MaskRows`."""
        return MaskRows(self.geometry, self.original, threshold, regions)

    def restore(self, probabilities: np.ndarray) -> np.ndarray:
        """Resample class probabilities ``(K + 1, *S)`` of the prepared image to the original grid."""
        return restore_map(self.geometry, self.original, probabilities)

    def _prepared(self, first: int, stop: int) -> np.ndarray:
        own = self.volume.geometry
        low, high = source_rows(own, self.geometry, first, stop)
        rows = self.preprocess.scaled(_rows_of(self.volume, low, high))
        return resample(rows, _grid_of(own, low, high), _grid_of(self.geometry, first, stop))


class MaskRows:
    """Class mask on the grid of the original image, computed incrementally from logits on the preprocessed grid.

    Args:
        prepared: grid of the preprocessed image.
        original: grid of the original image.
        threshold: see `class_mask`.
        regions: the logits are those of `cphloc.ops.regions.region_pairs`; a voxel gets the last region that contains
            it.
    """

    def __init__(
        self, prepared: Geometry, original: Geometry, threshold: float | None = None, regions: bool = False
    ) -> None:
        self.prepared = prepared
        self.threshold, self.regions = threshold, regions
        self.order, self.flip = original.canonical()
        self.target = original.reoriented(self.order, self.flip)
        self.written = np.zeros(self.target.shape, np.uint8)
        self.rows = 0
        self.first, self.held = 0, np.zeros((0, 0, *prepared.shape[1:]), np.float32)

    def add_rows(self, first: int, logits: Tensor) -> None:
        """Add the next rows of logits; class probabilities are interpolated before the argmax.

        Args:
            first: index of the first of these rows on the preprocessed grid; calls must be consecutive.
            logits: ``(K + 1, rows, *S[1:])``, background first.
        """
        known = first + logits.shape[1]
        if self.prepared.same_grid(self.target):
            if self.threshold is None and not self.regions:
                self.written[first:known] = logits.argmax(dim=0).to(torch.uint8).cpu().numpy()
            else:
                self.written[first:known] = self._decided(self._probabilities(logits))
            return
        new = self._probabilities(logits)
        self.held = np.concatenate([self.held, new], axis=1) if self.held.size else new
        stop = self.rows
        while stop < len(self.written) and source_rows(self.prepared, self.target, stop, stop + 1)[1] <= known:
            stop += 1
        if stop > self.rows:
            grids = _grid_of(self.prepared, self.first, known), _grid_of(self.target, self.rows, stop)
            self.written[self.rows : stop] = self._decided(resample(self.held, *grids))
            self.rows = stop
        if stop < len(self.written):
            needed = source_rows(self.prepared, self.target, stop, stop + 1)[0]
            self.held, self.first = self.held[:, needed - self.first :], needed

    def _probabilities(self, logits: Tensor) -> np.ndarray:
        found = region_logits(logits).sigmoid() if self.regions else logits.softmax(dim=0)
        return found.cpu().numpy()

    def _decided(self, probabilities: np.ndarray) -> np.ndarray:
        if self.regions:
            return painted(torch.from_numpy(probabilities) - (self.threshold or 0.5)).numpy()
        return class_mask(probabilities, self.threshold)

    def mask(self) -> np.ndarray:
        """Return the class mask ``(*S)`` uint8 on the grid of the original image."""
        return np.ascontiguousarray(reoriented_back(self.written, self.order, self.flip))


def class_mask(probabilities: np.ndarray, threshold: float | None = None) -> np.ndarray:
    """Convert class probabilities to a class mask.

    Args:
        probabilities: ``(K + 1, *S)``, background first.
        threshold: least probability of an object: a voxel gets its most probable foreground class if that reaches the
            threshold, else background. ``None`` gives every voxel its most probable class, background included.

    Returns:
        ``(*S)`` uint8.

    >>> class_mask(np.array([[0.6, 0.8], [0.3, 0.1], [0.1, 0.1]]), threshold=0.3).tolist()
    [1, 0]
    """
    if threshold is None:
        return probabilities.argmax(axis=0).astype(np.uint8)
    foreground = probabilities[1:]
    return np.where(foreground.max(axis=0) >= threshold, foreground.argmax(axis=0) + 1, 0).astype(np.uint8)


def _rows_of(volume: Volume, first: int, stop: int) -> Volume:
    own = volume.geometry
    return volume.crop((first, *(0 for _ in own.shape[1:])), (stop - first, *own.shape[1:]))


def _grid_of(geometry: Geometry, first: int, stop: int) -> Geometry:
    return geometry.crop((first, *(0 for _ in geometry.shape[1:])), (stop - first, *geometry.shape[1:]))
