"""Plot masks, boxes and attention maps over an image with matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from cphloc.structures.annotation import IGNORE
from cphloc.structures.volume import Volume, reoriented

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = ("#ff5a36", "#2ec4b6", "#ffbf00", "#7b61ff", "#00a6fb", "#f15bb5", "#70e000", "#b5838d")
LineStyle = Literal["solid", "dashed", "dotted"]
LINES: tuple[LineStyle, ...] = ("solid", "dashed", "dotted")
PLANES = ("axial", "coronal", "sagittal")


Box = tuple[np.ndarray, int, str]
"""A box to draw: voxel edges ``(2 D,)`` as ``[lo..., hi...]``, class number, and text shown beside it."""


def overlay(
    volume: Volume,
    classes: Mapping[int, str],
    masks: Mapping[str, np.ndarray] | None = None,
    boxes: Mapping[str, Sequence[Box]] | None = None,
    attention: np.ndarray | None = None,
    title: str = "",
) -> Figure:
    """Plot mask contours, boxes and attention over an image: one panel in 2-D, three orthogonal planes in 3-D.

    The planes pass through the slices in which the first mask has the largest area. Without a mask, they pass through
    the centre of the first box, else the maximum of the attention map, else the centre of the image.

    Args:
        volume: the image; its first channel (or RGB in 2-D) is shown.
        classes: class number -> name, for the legend.
        masks: annotator -> class mask ``(*S)``, such as ``{"expert": ..., "cphloc": ...}``; each annotator has a line
            style, at most three.
        boxes: annotator -> boxes in voxel coordinates of the image.
        attention: attention map ``(*S)``, shown as a heat map.
        title: title of the figure.

    Returns:
        a matplotlib figure, not yet saved or shown.
    """
    from matplotlib.figure import Figure

    order, flip = volume.geometry.canonical()
    grid = volume.geometry.reoriented(order, flip)
    image = reoriented(volume.array, order, flip)
    masks = {who: reoriented(mask, order, flip) for who, mask in (masks or {}).items()}
    attention = None if attention is None else reoriented(attention, order, flip)
    boxes = {
        who: [(volume.geometry.boxes_to(grid, edges[None])[0], number, text) for edges, number, text in drawn]
        for who, drawn in (boxes or {}).items()
    }
    styles = dict(zip(dict.fromkeys([*masks, *boxes]), LINES, strict=False))
    centre = _centre(grid.shape, masks, boxes, attention)
    planes = range(3) if grid.dims == 3 else [None]
    figure = Figure(figsize=(4.2 * len(planes), 4.6), layout="constrained", dpi=110)
    for axes, plane in zip(figure.subplots(1, len(planes), squeeze=False)[0], planes, strict=True):
        _panel(axes, image, masks, boxes, attention, styles, plane, centre, grid.spacing_mm)
    _legend(figure, classes, masks, boxes, styles)
    figure.suptitle(title, fontsize=11)
    return figure


def _centre(shape: tuple[int, ...], masks: Mapping, boxes: Mapping, attention: np.ndarray | None) -> tuple[int, ...]:
    """Index of the voxel at which the displayed planes intersect; see `overlay`."""
    for mask in masks.values():
        inside = (mask > 0) & (mask != IGNORE)
        if inside.any():
            # The slice with the largest area; the centroid of a non-convex object may be outside it.
            return tuple(int(inside.sum(axis=_others(inside.ndim, a)).argmax()) for a in range(inside.ndim))
    if (first := next((edges for drawn in boxes.values() for edges, _, _ in drawn), None)) is not None:
        dims = len(shape)
        middle = (first[:dims] + first[dims:]) / 2
        return tuple(int(np.clip(m, 0, n - 1)) for m, n in zip(middle, shape, strict=True))
    if attention is not None:
        return tuple(int(i) for i in np.unravel_index(attention.argmax(), shape))
    return tuple(n // 2 for n in shape)


def _others(dims: int, axis: int) -> tuple[int, ...]:
    return tuple(a for a in range(dims) if a != axis)


def _panel(
    axes: Axes,
    image: np.ndarray,
    masks: Mapping[str, np.ndarray],
    boxes: Mapping[str, Sequence[Box]],
    attention: np.ndarray | None,
    styles: Mapping[str, LineStyle],
    plane: int | None,
    centre: tuple[int, ...],
    spacing: tuple[float, ...],
) -> None:
    """Draw one panel; ``plane`` is the array axis perpendicular to it, ``None`` for a 2-D image."""

    def cut(array: np.ndarray) -> np.ndarray:
        """Return the central slice along ``plane``; a 2-D image as it is."""
        return array if plane is None else np.take(array, centre[plane], axis=array.ndim - 3 + plane)

    rows, columns = (0, 1) if plane is None else _others(3, plane)
    extent = (0, image.shape[1 + columns], image.shape[1 + rows], 0)
    axes.imshow(_displayed(cut(image)), cmap="gray", extent=extent, aspect=spacing[rows] / spacing[columns])
    if attention is not None:
        heat = cut(attention)
        top = max(float(attention.max()), 1e-12)
        axes.imshow(heat, cmap="inferno", alpha=np.clip(heat / top, 0, 1) * 0.7, extent=extent, vmin=0, vmax=top)
    for who, mask in masks.items():
        _contours(axes, cut(mask), styles[who])
    for who, drawn in boxes.items():
        for box in drawn:
            _box(axes, box, styles[who], plane, centre, rows, columns)
    axes.set(xlim=extent[:2], ylim=extent[2:], xticks=[], yticks=[])
    # In canonical order the first slice is the lowest; invert the axis to show the head at the top.
    if plane in (1, 2):
        axes.invert_yaxis()
    if plane is not None:
        axes.set_xlabel(f"{PLANES[plane]}, slice {centre[plane] + 1} of {image.shape[1 + plane]}", fontsize=9)
    axes.set_aspect(spacing[rows] / spacing[columns])


def _displayed(image: np.ndarray) -> np.ndarray:
    """Convert ``(C, H, W)`` to a grey or RGB picture in [0, 1], scaled from the 1st to the 99th percentile."""
    shown = np.moveaxis(image, 0, -1) if image.shape[0] == 3 else image[0]
    low, high = np.percentile(shown, (1, 99))
    return np.clip((shown - low) / max(high - low, 1e-6), 0, 1)


def _contours(axes: Axes, mask: np.ndarray, style: str) -> None:
    rows, columns = (np.arange(n) + 0.5 for n in mask.shape)
    for number in np.unique(mask):
        if number not in (0, IGNORE):
            inside = (mask == number).astype(float)
            axes.contour(columns, rows, inside, [0.5], colors=_color(number), linestyles=style, linewidths=1.4)


def _box(axes: Axes, box: Box, style: str, plane: int | None, centre: tuple[int, ...], rows: int, columns: int) -> None:
    from matplotlib.patches import Rectangle

    edges, number, text = box
    dims = len(edges) // 2
    if plane is not None and not edges[plane] <= centre[plane] + 0.5 < edges[dims + plane]:
        return
    corner = (edges[columns], edges[rows])
    size = (edges[dims + columns] - edges[columns], edges[dims + rows] - edges[rows])
    axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor=_color(number), linestyle=style, linewidth=1.4))
    if text:
        axes.text(
            *corner, text, fontsize=7, color="white", va="bottom", bbox={"facecolor": _color(number), "pad": 1, "lw": 0}
        )


def _color(number: int) -> str:
    return COLORS[(int(number) - 1) % len(COLORS)]


def _legend(
    figure: Figure, classes: Mapping[int, str], masks: Mapping, boxes: Mapping, styles: Mapping[str, LineStyle]
) -> None:
    from matplotlib.lines import Line2D

    shown = {int(n) for mask in masks.values() for n in np.unique(mask)}
    shown |= {number for drawn in boxes.values() for _, number, _ in drawn}
    handles = [Line2D([], [], color=_color(n), label=name) for n, name in classes.items() if n in shown]
    if len(styles) > 1:
        handles += [Line2D([], [], color="gray", linestyle=style, label=who) for who, style in styles.items()]
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=9, frameon=False)
