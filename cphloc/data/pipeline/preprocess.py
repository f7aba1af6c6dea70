"""Preprocess images for a model, and resample predictions to the grid of the original image.

The preprocessed grid (the "frame" of the model) has canonical axes (slices towards the head, rows towards the back,
columns towards the left), the spacing of the recipe and the field of view of the image: the outer edges of the image do
not move, so boxes scale by exactly ``n' / n`` for ``n`` and ``n'`` voxels before and after.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cphloc.data.io.resample import resample, resample_labels
from cphloc.data.pipeline.intensity import Intensity
from cphloc.data.pipeline.small_objects import with_lost_objects
from cphloc.errors import DataError
from cphloc.structures.geometry import Geometry
from cphloc.structures.volume import Volume, reoriented, reoriented_back

MOST_VOXELS = 2**31
"""Maximum number of voxels per channel after resampling: 8 GiB as float32, more than a whole-body CT at 0.5 mm."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """A preprocessed image.

    Args:
        array: ``(C, *S)`` float32, contiguous.
        geometry: grid of ``array``.
        original: grid of the image file, to which predictions are resampled.
    """

    array: np.ndarray
    geometry: Geometry
    original: Geometry


@dataclass(frozen=True)
class Preprocess:
    """Preprocessing of images: reorient to canonical axes, scale intensities, resample.

    Args:
        dims: number of spatial axes, 2 or 3.
        spacing_mm: voxel size to resample to, in array axis order; ``None`` keeps that of each image.
        intensity: one intensity scheme per channel.
        fit: size in voxels to which the whole image is scaled, keeping its aspect ratio; ``None`` does not scale.

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
        """Preprocess an image: reorient, scale intensities, resample.

        Intensities are scaled before resampling, because interpolation would spread outliers.

        Raises:
            DataError: the image has a wrong number of axes or channels, or has no physical size although
                ``spacing_mm`` is set.
        """
        frame = self.frame(volume.geometry, volume.source)
        canonical = volume.canonical()
        array = resample(self.scaled(canonical), canonical.geometry, frame)
        return Prepared(np.ascontiguousarray(array), frame, volume.geometry)

    def scaled(self, volume: Volume) -> np.ndarray:
        """Scale the intensities of an image to ``(C, *S)`` float32, on the grid of the image.

        Raises:
            DataError: the image has a wrong number of channels.
        """
        channels = _with_channels(volume, len(self.intensity)).array
        return np.stack([s(c, volume.window) for s, c in zip(self.intensity, channels, strict=True)])

    def frame(self, geometry: Geometry, source: str = "image") -> Geometry:
        """Compute the preprocessed grid of an image.

        Args:
            geometry: grid of the image.
            source: name of the image in error messages.

        Raises:
            DataError: the image has a wrong number of axes, has no physical size although ``spacing_mm`` is set, or
                would have more than `MOST_VOXELS` voxels.
        """
        if geometry.dims != self.dims:
            msg = f"{source}: is {geometry.dims}-D but the model takes {self.dims}-D images"
            raise DataError(msg)
        grid = geometry.reoriented(*geometry.canonical())
        if self.spacing_mm is not None:
            if geometry.unit != "mm":
                msg = f"{source}: has no physical size but the model works at {self.spacing_mm} mm; pass spacing_mm"
                raise DataError(msg)
            grid = grid.resampled(self.spacing_mm)
        if self.fit is not None:
            shrink = max(n / most for n, most in zip(grid.shape, self.fit, strict=True))
            grid = grid.resampled(tuple(s * shrink for s in grid.spacing_mm))
        if np.prod(grid.shape, dtype=float) > MOST_VOXELS:
            msg = (
                f"{source}: would have {' x '.join(map(str, grid.shape))} voxels at {self.spacing_mm} mm; its own "
                f"spacing {tuple(round(s, 4) for s in geometry.spacing_mm)} mm is probably wrong, correct it"
            )
            raise DataError(msg)
        return grid

    def prepare_mask(self, mask: np.ndarray, geometry: Geometry) -> np.ndarray:
        """Resample a label mask ``(*S)`` from ``geometry``, the grid of the image, to the preprocessed grid.

        Every object keeps at least one voxel, see `cphloc.data.pipeline.small_objects`.
        """
        return self.prepare_objects(mask, geometry)[0]

    def prepare_objects(self, mask: np.ndarray, geometry: Geometry) -> tuple[np.ndarray, int]:
        """Resample as `prepare_mask` does; also returns the number of objects that would have vanished."""
        return with_lost_objects(self._upright(mask, geometry), self.prepare_region(mask, geometry))

    def prepare_region(self, region: np.ndarray, geometry: Geometry) -> np.ndarray:
        """Resample integers ``(*S)`` to the preprocessed grid, nearest neighbour; small objects may vanish."""
        canonical = geometry.reoriented(*geometry.canonical())
        return np.ascontiguousarray(resample_labels(self._upright(region, geometry), canonical, self.frame(geometry)))

    @staticmethod
    def _upright(values: np.ndarray, geometry: Geometry) -> np.ndarray:
        return reoriented(values, *geometry.canonical())

    def prepare_boxes(self, boxes: np.ndarray, geometry: Geometry) -> np.ndarray:
        """Transform boxes ``(n, 2 D)`` from ``geometry``, the grid of the image, to the preprocessed grid."""
        return geometry.boxes_to(self.frame(geometry), boxes)


def restore_mask(prepared: Geometry, original: Geometry, values: np.ndarray) -> np.ndarray:
    """Resample a class mask or class probabilities from the preprocessed grid to that of the original image.

    Args:
        prepared: grid of ``values``.
        original: grid of the original image.
        values: class mask ``(*S)`` of integers, or class probabilities ``(K + 1, *S)``, which are interpolated
            before the argmax; this gives smoother surfaces.

    Returns:
        class mask on ``original``, with the dtype of the given mask, or uint8 for probabilities.
    """
    if values.ndim == prepared.dims:
        return _restored(prepared, original, lambda grid: resample_labels(values, prepared, grid))
    classes = np.argmax(restore_map(prepared, original, values), axis=0)
    return classes.astype(np.uint8)


def restore_map(prepared: Geometry, original: Geometry, values: np.ndarray) -> np.ndarray:
    """Resample maps ``(C, *S)``, such as class probabilities, linearly from ``prepared`` to the grid ``original``."""
    return _restored(prepared, original, lambda grid: resample(values, prepared, grid))


def restore_boxes(prepared: Geometry, original: Geometry, boxes: np.ndarray) -> np.ndarray:
    """Transform boxes ``(n, 2 D)`` from the preprocessed grid to edge coordinates of the original image."""
    return prepared.boxes_to(original, boxes)


def restore_attention(
    prepared: Geometry, original: Geometry, attention: np.ndarray, stride: tuple[float, ...] | None = None
) -> np.ndarray:
    """Resample an attention map to the grid of the original image and rescale it to the same sum.

    Args:
        prepared: grid of the model input.
        original: grid of the original image.
        attention: ``(*S')``, one value per cell of the feature map. The first cell starts at the corner of
            ``prepared``; the last may extend beyond it.
        stride: voxels of ``prepared`` per cell and axis; ``None`` where the cells cover ``prepared`` exactly.
    """
    stride = stride or tuple(n / m for n, m in zip(prepared.shape, attention.shape, strict=True))
    spacing = tuple(s * t for s, t in zip(prepared.spacing_mm, stride, strict=True))
    first_centre = prepared.edges_to_world(np.asarray(stride) / 2)
    cells = Geometry(attention.shape, spacing, tuple(map(float, first_centre)), prepared.direction, prepared.unit)
    spread = restore_map(cells, original, attention[None].astype(np.float32))[0]
    total = spread.sum(dtype=np.float64)
    return spread * np.float32(attention.sum(dtype=np.float64) / total) if total > 0 else spread


def _restored(prepared: Geometry, original: Geometry, onto: Callable[[Geometry], np.ndarray]) -> np.ndarray:
    """Resample with ``onto`` to the canonically reoriented original grid, then flip and permute axes back."""
    order, flip = original.canonical()
    return np.ascontiguousarray(reoriented_back(onto(original.reoriented(order, flip)), order, flip))


def _with_channels(volume: Volume, channels: int) -> Volume:
    """Repeat a grey channel, or drop two of three equal channels, to get ``channels`` channels."""
    if volume.channels == channels:
        return volume
    grey = volume.channels == 1 or (volume.channels == 3 and (volume.array == volume.array[:1]).all())
    if not grey or channels not in (1, 3):
        msg = f"{volume.source}: has {volume.channels} channels but the model takes {channels}; pass a list of images"
        raise DataError(msg)
    array = np.broadcast_to(volume.array[:1], (channels, *volume.geometry.shape))
    return Volume(array, volume.geometry, volume.modality, volume.source, volume.window)
