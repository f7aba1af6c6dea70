"""Small pictures of cases with outlines and boxes, drawn quickly and kept as JPEG."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageDraw

from cphloc.data.io.overlay import class_color
from cphloc.structures.annotation import IGNORE
from cphloc.structures.boxes import mask_of
from cphloc.structures.volume import Volume

SIDE = 128
"""Longest side of a panel in pixels."""


def thumbnail(volume: Volume, mask: np.ndarray | None, boxes: np.ndarray, box_classes: np.ndarray) -> bytes:
    """Draw a case in canonical orientation: a picture, or the three planes of a volume, through the largest area.

    Args:
        volume: the image in canonical orientation; its first channel, or RGB in 2-D, is shown.
        mask: ``(*S)`` class of each voxel, or ``None``.
        boxes: ``(n, 2 D)`` voxel edges, drawn where there is no mask.
        box_classes: ``(n,)`` class numbers.

    Returns:
        a JPEG file.
    """
    drawn = mask if mask is not None else mask_of(boxes, box_classes, volume.geometry.shape)
    inside = (drawn > 0) & (drawn != IGNORE)
    planes = [None] if volume.dims == 2 else range(3)
    panels = []
    for plane in planes:
        at = 0 if plane is None else _slice(inside, plane)
        image = volume.array if plane is None else np.take(volume.array, at, 1 + plane)
        outlined = mask if mask is None or plane is None else np.take(mask, at, plane)
        rectangles = [] if mask is not None else _rectangles(boxes, box_classes, plane, at)
        rows, columns = (a for a in range(volume.dims) if a != plane)
        spacing = volume.geometry.spacing_mm[rows], volume.geometry.spacing_mm[columns]
        panels.append(_panel(image, outlined, rectangles, spacing, upright=plane in (1, 2)))
    return _joined(panels)


def _slice(inside: np.ndarray, plane: int) -> int:
    """Index of the slice with the largest annotated area, else the middle one."""
    areas = inside.sum(axis=tuple(a for a in range(3) if a != plane))
    return int(areas.argmax()) if areas.any() else inside.shape[plane] // 2


def _rectangles(
    boxes: np.ndarray, box_classes: np.ndarray, plane: int | None, at: int
) -> list[tuple[list[float], int]]:
    """``[row, column, row, column]`` edges and class of the boxes that the slice cuts."""
    dims = 2 if plane is None else 3
    axes = [a for a in range(dims) if a != plane]
    found = []
    for edges, number in zip(boxes, box_classes, strict=True):
        if plane is None or edges[plane] <= at + 0.5 < edges[dims + plane]:
            found.append(([float(edges[a]) for a in (*axes, *(dims + a for a in axes))], int(number)))
    return found


def _panel(
    image: np.ndarray,
    mask: np.ndarray | None,
    rectangles: list[tuple[list[float], int]],
    spacing: tuple[float, float],
    upright: bool,
) -> Image.Image:
    """Draw one slice ``(C, H, W)``; ``upright`` turns the first row, the lowest, to the bottom."""
    shown = image if len(image) == 3 else image[:1]
    low, high = np.percentile(shown, (1, 99))
    grey = np.clip((shown - low) / max(float(high - low), 1e-6) * 255, 0, 255).astype(np.uint8)
    size_mm = image.shape[1] * spacing[0], image.shape[2] * spacing[1]
    scale = SIDE / max(size_mm)
    height, width = (max(1, round(n * scale)) for n in size_mm)
    picture = Image.fromarray(np.moveaxis(grey, 0, -1) if len(grey) == 3 else grey[0]).convert("RGB")
    picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    if mask is not None:
        small = np.asarray(Image.fromarray(mask.astype(np.uint8)).resize((width, height), Image.Resampling.NEAREST))
        picture = _outlined(np.array(picture), small)
    draw = ImageDraw.Draw(picture)
    for (top, left, bottom, right), number in rectangles:
        y, x = height / image.shape[1], width / image.shape[2]
        corners = (left * x, top * y, max(left, right) * x, max(top, bottom) * y)
        draw.rectangle(corners, outline=class_color(abs(number)))
    return picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM) if upright else picture


def _outlined(picture: np.ndarray, mask: np.ndarray) -> Image.Image:
    """Colour the voxels of each class that have a neighbour of another class."""
    padded = np.pad(mask, 1)
    same = np.ones(mask.shape, bool)
    for shifted in (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]):
        same &= shifted == mask
    edge = ~same & (mask > 0) & (mask != IGNORE)
    for number in np.unique(mask[edge]):
        colour = class_color(int(number)).lstrip("#")
        picture[edge & (mask == number)] = [int(colour[k : k + 2], 16) for k in (0, 2, 4)]
    return Image.fromarray(picture)


def _joined(panels: list[Image.Image]) -> bytes:
    """Put panels side by side and encode them as JPEG."""
    gap = 2
    width = sum(panel.width for panel in panels) + gap * (len(panels) - 1)
    whole = Image.new("RGB", (width, max(panel.height for panel in panels)))
    left = 0
    for panel in panels:
        whole.paste(panel, (left, (whole.height - panel.height) // 2))
        left += panel.width + gap
    stream = io.BytesIO()
    whole.save(stream, "JPEG", quality=80)
    return stream.getvalue()
