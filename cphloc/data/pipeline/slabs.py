"""Large images some rows (slices) at a time, so that memory does not grow with their number.

Grids of an image and of the model's frame are parallel once the image's axes are in canonical order, so rows of one
depend on a few rows of the other; the same voxels are computed as for the whole image.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cphloc.data.io.resample import reach, resample
from cphloc.data.pipeline.preprocess import Preprocess
from cphloc.structures.geometry import Geometry
from cphloc.structures.volume import Volume, reoriented_back


class Slabs:
    """An image in a model's frame, prepared when it is asked for: ``slabs[:, :, first:stop]``.

    Where an intensity scheme looks at the whole image (``zscore``), it is prepared at once and kept.

    Args:
        preprocess: what to do to the image.
        volume: the image as it was read.

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
        self.volume = volume.canonical()
        local = all(scheme.local for scheme in preprocess.intensity)
        self.whole = None if local else torch.as_tensor(preprocess(volume).array)[None]
        self.first, self.held = 0, np.zeros((self.shape[1], 0, *self.shape[3:]), np.float32)

    def __getitem__(self, key: tuple[slice, slice, slice]) -> Tensor:
        """``(1, C, rows, *S[1:])`` float32; rows that the last request had too are not prepared again."""
        if self.whole is not None:
            return self.whole[key]
        first, stop, _ = key[2].indices(self.shape[2])
        known = self.first + self.held.shape[1]
        kept = self.held[:, first - self.first :] if self.first <= first < known else self.held[:, :0]
        self.held = np.concatenate([kept, self._prepared(first + kept.shape[1], stop)], axis=1)
        self.first = first
        return torch.from_numpy(self.held)[None]

    def _prepared(self, first: int, stop: int) -> np.ndarray:
        own = self.volume.geometry
        low, high = reach(own, self.geometry, first, stop)
        rows = self.preprocess.scaled(_rows_of(self.volume, low, high))
        return resample(rows, _grid_of(own, low, high), _grid_of(self.geometry, first, stop))


class MaskRows:
    """A class mask on an image's own grid, written as its log-probabilities in the model's frame come row by row.

    Args:
        prepared: grid of the model's frame.
        original: grid of the image as it was read.
    """

    def __init__(self, prepared: Geometry, original: Geometry) -> None:
        self.prepared = prepared
        self.order, self.flip = original.canonical()
        self.target = original.reoriented(self.order, self.flip)
        self.written = np.zeros(self.target.shape, np.uint8)
        self.rows = 0
        self.first, self.held = 0, np.zeros((0, 0, *prepared.shape[1:]), np.float32)

    def take(self, first: int, logits: Tensor) -> None:
        """Take the next rows ``(K + 1, rows, *S[1:])``; probabilities, not classes, are interpolated."""
        known = first + logits.shape[1]
        if self.prepared.same_grid(self.target):
            self.written[first:known] = logits.argmax(dim=0).to(torch.uint8).cpu().numpy()
            return
        new = logits.softmax(dim=0).cpu().numpy()
        self.held = np.concatenate([self.held, new], axis=1) if self.held.size else new
        stop = self.rows
        while stop < len(self.written) and reach(self.prepared, self.target, stop, stop + 1)[1] <= known:
            stop += 1
        if stop > self.rows:
            grids = _grid_of(self.prepared, self.first, known), _grid_of(self.target, self.rows, stop)
            self.written[self.rows : stop] = resample(self.held, *grids).argmax(axis=0)
            self.rows = stop
        if stop < len(self.written):
            needed = reach(self.prepared, self.target, stop, stop + 1)[0]
            self.held, self.first = self.held[:, needed - self.first :], needed

    def mask(self) -> np.ndarray:
        """``(*S)`` uint8 on the image's own grid."""
        return np.ascontiguousarray(reoriented_back(self.written, self.order, self.flip))


def _rows_of(volume: Volume, first: int, stop: int) -> Volume:
    own = volume.geometry
    return volume.crop((first, *(0 for _ in own.shape[1:])), (stop - first, *own.shape[1:]))


def _grid_of(geometry: Geometry, first: int, stop: int) -> Geometry:
    return geometry.crop((first, *(0 for _ in geometry.shape[1:])), (stop - first, *geometry.shape[1:]))
