"""Bring an image into a model's frame, and the model's results back onto the image's own grid.

The frame has canonical axes (slices towards the head, rows towards the back, columns towards the left), the model's
spacing and the image's own field of view: the outer edges never move, so boxes scale by exactly ``n' / n``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cphloc.data.io.resample import resample, resample_labels
from cphloc.data.pipeline.intensity import Intensity
from cphloc.errors import DataError
from cphloc.structures.geometry import Geometry
from cphloc.structures.volume import Volume, reoriented, reoriented_back

MOST_VOXELS = 2**31
"""Voxels per channel in the model's frame: 8 GiB, more than a whole-body CT at 0.5 mm."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """An image in the model's frame.

    Args:
        array: ``(C, *S)`` float32, contiguous.
        geometry: grid of ``array``.
        original: grid of the image as it was read; results go back there.
    """

    array: np.ndarray
    geometry: Geometry
    original: Geometry


@dataclass(frozen=True)
class Preprocess:
    """What happens to an image before a model sees it.

    Args:
        dims: 2 or 3.
        spacing_mm: voxel size in the model's frame, array order; ``None`` keeps the image's own.
        intensity: one scheme per channel.
        fit: scale the whole image, keeping its proportions, until it just fits into this many voxels.

    >>> from cphloc.data.pipeline.intensity import parse_intensity
    >>> volume = Volume(np.zeros((1, 10, 20)), Geometry.regular((10, 20), (2.0, 1.0)))
    >>> Preprocess(2, (1.0, 1.0), parse_intensity("zscore", 1))(volume).array.shape
    (1, 20, 20)
    """

    dims: int
    spacing_mm: tuple[float, ...] | None
    intensity: Sequence[Intensity]
    fit: tuple[int, ...] | None = None

    def __call__(self, volume: Volume) -> Prepared:
        """Reorient, transform intensities (on the stored voxels, before interpolation smears outliers), resample.

        Raises:
            DataError: wrong number of axes or channels, or no physical size where a spacing is wanted.
        """
        frame = self.frame(volume.geometry, volume.source)
        canonical = volume.canonical()
        array = resample(self.scaled(canonical), canonical.geometry, frame)
        return Prepared(np.ascontiguousarray(array), frame, volume.geometry)

    def scaled(self, volume: Volume) -> np.ndarray:
        """Intensities of an image ``(C, *S)`` as the model takes them, still on its own grid.

        Raises:
            DataError: wrong number of channels.
        """
        channels = _with_channels(volume, len(self.intensity)).array
        return np.stack([s(c, volume.window) for s, c in zip(self.intensity, channels, strict=True)])

    def frame(self, geometry: Geometry, source: str = "image") -> Geometry:
        """The model's grid for an image on ``geometry``."""
        if geometry.dims != self.dims:
            msg = f"{source}: is {geometry.dims}-D but the model takes {self.dims}-D images"
            raise DataError(msg)
        grid = geometry.reoriented(*geometry.canonical())
        if self.spacing_mm is not None:
            if geometry.unit != "mm":
                msg = f"{source}: states no physical size but the model works at {self.spacing_mm} mm; give spacing_mm"
                raise DataError(msg)
            grid = grid.resampled(self.spacing_mm)
        if self.fit is not None:
            shrink = max(n / most for n, most in zip(grid.shape, self.fit, strict=True))
            grid = grid.resampled(tuple(s * shrink for s in grid.spacing_mm))
        if np.prod(grid.shape, dtype=float) > MOST_VOXELS:
            msg = (
                f"{source}: would have {' x '.join(map(str, grid.shape))} voxels at {self.spacing_mm} mm; its own "
                f"spacing {tuple(round(s, 4) for s in geometry.spacing_mm)} mm is hardly right, correct it"
            )
            raise DataError(msg)
        return grid

    def prepare_mask(self, mask: np.ndarray, geometry: Geometry) -> np.ndarray:
        """Label mask ``(*S)`` of an image on ``geometry``, in the model's frame."""
        order, flip = geometry.canonical()
        canonical = geometry.reoriented(order, flip)
        moved = resample_labels(reoriented(mask, order, flip), canonical, self.frame(geometry))
        return np.ascontiguousarray(moved)

    def prepare_boxes(self, boxes: np.ndarray, geometry: Geometry) -> np.ndarray:
        """Boxes ``(n, 2 D)`` of an image on ``geometry``, in the model's frame; exact."""
        return geometry.boxes_to(self.frame(geometry), boxes)


def restore_mask(prepared: Geometry, original: Geometry, values: np.ndarray) -> np.ndarray:
    """Bring a result of the model back onto the image's own grid.

    Args:
        prepared: grid of ``values``.
        original: grid of the image as it was read.
        values: class mask ``(*S)`` of integers, or class probabilities ``(K + 1, *S)``, which are interpolated
            before the largest is taken: smoother than a resampled mask.

    Returns:
        class mask on ``original``, of the dtype of a mask given, uint8 otherwise.
    """
    if values.ndim == prepared.dims:
        return _restored(prepared, original, lambda grid: resample_labels(values, prepared, grid))
    classes = np.argmax(restore_map(prepared, original, values), axis=0)
    return classes.astype(np.uint8)


def restore_map(prepared: Geometry, original: Geometry, values: np.ndarray) -> np.ndarray:
    """Bring maps ``(C, *S)``, such as class probabilities, back onto the image's own grid by linear interpolation."""
    return _restored(prepared, original, lambda grid: resample(values, prepared, grid))


def restore_boxes(prepared: Geometry, original: Geometry, boxes: np.ndarray) -> np.ndarray:
    """Express boxes ``(n, 2 D)`` of the model's frame in edge coordinates of the image's own grid; exact."""
    return prepared.boxes_to(original, boxes)


def restore_attention(
    prepared: Geometry, original: Geometry, attention: np.ndarray, stride: tuple[float, ...] | None = None
) -> np.ndarray:
    """Spread attention over the voxels of the image; it sums to what it summed to before.

    Args:
        prepared: grid of the model's input.
        original: grid of the image as it was read.
        attention: ``(*S')``, one value per cell; cells begin at the corner of ``prepared``, may reach beyond its end.
        stride: voxels of ``prepared`` per cell and axis; without it the cells cover ``prepared`` exactly.
    """
    stride = stride or tuple(n / m for n, m in zip(prepared.shape, attention.shape, strict=True))
    spacing = tuple(s * t for s, t in zip(prepared.spacing_mm, stride, strict=True))
    first_centre = prepared.edges_to_world(np.asarray(stride) / 2)
    cells = Geometry(attention.shape, spacing, tuple(map(float, first_centre)), prepared.direction, prepared.unit)
    spread = restore_map(cells, original, attention[None].astype(np.float32))[0]
    total = spread.sum(dtype=np.float64)
    return spread * np.float32(attention.sum(dtype=np.float64) / total) if total > 0 else spread


def _restored(prepared: Geometry, original: Geometry, onto: Callable[[Geometry], np.ndarray]) -> np.ndarray:
    """Resample with ``onto`` on the original's grid in canonical axes, then flip and permute without interpolation."""
    order, flip = original.canonical()
    return np.ascontiguousarray(reoriented_back(onto(original.reoriented(order, flip)), order, flip))


def _with_channels(volume: Volume, channels: int) -> Volume:
    """The image with as many channels as the model takes, where grey and colour convert without loss."""
    if volume.channels == channels:
        return volume
    grey = volume.channels == 1 or (volume.channels == 3 and (volume.array == volume.array[:1]).all())
    if not grey or channels not in (1, 3):
        msg = f"{volume.source}: has {volume.channels} channels but the model takes {channels}; give a list of images"
        raise DataError(msg)
    array = np.broadcast_to(volume.array[:1], (channels, *volume.geometry.shape))
    return Volume(array, volume.geometry, volume.modality, volume.source, volume.window)
