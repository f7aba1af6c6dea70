"""Plot masks, boxes and attention maps over an image with matplotlib."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from cphloc.data.io.overlay_labels import Label, place_labels
from cphloc.errors import needs
from cphloc.structures.annotation import IGNORE
from cphloc.structures.volume import Volume, reoriented

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from cphloc.data.io.picture import Picture

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
) -> Picture:
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
        a matplotlib figure, not yet saved; notebooks show it.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    with needs("a picture"):
        from cphloc.data.io.picture import Picture

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
    figure = Picture(figsize=(4.2 * len(planes), 4.6), layout="constrained", dpi=110)
    window = _window([_cut(image, plane, centre) for plane in planes])
    panels = list(zip(figure.subplots(1, len(planes), squeeze=False)[0], planes, strict=True))
    for axes, plane in panels:
        _panel(axes, image, window, masks, boxes, attention, styles, plane, centre, grid.spacing_mm)
    _legend(figure, classes, masks, boxes, styles)
    figure.suptitle(title, fontsize=11)
    for axes, plane in panels:
        place_labels(axes, _labelled(boxes, plane, centre), [_cut(mask, plane, centre) for mask in masks.values()])
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


def _cut(array: np.ndarray, plane: int | None, centre: tuple[int, ...]) -> np.ndarray:
    """Return the displayed slice of an image ``(C, *S)`` or a map ``(*S)``; a 2-D one as it is."""
    return array if plane is None else np.take(array, centre[plane], axis=array.ndim - 3 + plane)


def _panel(
    axes: Axes,
    image: np.ndarray,
    window: tuple[float, float],
    masks: Mapping[str, np.ndarray],
    boxes: Mapping[str, Sequence[Box]],
    attention: np.ndarray | None,
    styles: Mapping[str, LineStyle],
    plane: int | None,
    centre: tuple[int, ...],
    spacing: tuple[float, ...],
) -> None:
    """Draw one panel; ``plane`` is the array axis perpendicular to it, ``None`` for a 2-D image."""
    rows, columns = _axes_of(plane)
    extent = (0, image.shape[1 + columns], image.shape[1 + rows], 0)
    shown = _displayed(_cut(image, plane, centre), window)
    axes.imshow(shown, cmap="gray", vmin=0, vmax=1, extent=extent, aspect=spacing[rows] / spacing[columns])
    if attention is not None:
        heat = _cut(attention, plane, centre)
        top = max(float(attention.max()), 1e-12)
        axes.imshow(heat, cmap="inferno", alpha=np.clip(heat / top, 0, 1) * 0.7, extent=extent, vmin=0, vmax=top)
    for who, mask in masks.items():
        _contours(axes, _cut(mask, plane, centre), styles[who])
    for who, drawn in boxes.items():
        for corner, size, number, _ in _rectangles(drawn, plane, centre):
            _rectangle(axes, corner, size, number, styles[who])
    axes.set(xlim=extent[:2], ylim=extent[2:], xticks=[], yticks=[])
    # In canonical order the first slice is the lowest; invert the axis to show the head at the top.
    if plane in (1, 2):
        axes.invert_yaxis()
    if plane is not None:
        axes.set_xlabel(f"{PLANES[plane]}, slice {centre[plane] + 1} of {image.shape[1 + plane]}", fontsize=9)
    axes.set_aspect(spacing[rows] / spacing[columns])


def _axes_of(plane: int | None) -> tuple[int, ...]:
    """Array axes along the rows and columns of a panel."""
    return (0, 1) if plane is None else _others(3, plane)


def _window(cuts: Sequence[np.ndarray]) -> tuple[float, float]:
    """Intensities shown black and white in every panel: the 1st and 99th percentile of all displayed slices."""
    low, high = np.percentile(np.concatenate([_channels(cut).ravel() for cut in cuts]), (1, 99))
    return float(low), float(high)


def _channels(cut: np.ndarray) -> np.ndarray:
    """Channels of a slice ``(C, H, W)`` that are displayed: RGB, else the first."""
    return cut if cut.shape[0] == 3 else cut[:1]


def _displayed(cut: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    """Convert a slice ``(C, H, W)`` to a grey or RGB picture in [0, 1]."""
    low, high = window
    shown = np.clip((_channels(cut) - low) / max(high - low, 1e-6), 0, 1)
    return np.moveaxis(shown, 0, -1) if len(shown) == 3 else shown[0]


def _contours(axes: Axes, mask: np.ndarray, style: str) -> None:
    rows, columns = (np.arange(n) + 0.5 for n in mask.shape)
    ignored = (0, IGNORE) if mask.dtype == np.uint8 else (0,)  # instances are int32 and may have this number
    for number in np.unique(mask):
        if number not in ignored:
            inside = (mask == number).astype(float)
            axes.contour(columns, rows, inside, [0.5], colors=class_color(number), linestyles=style, linewidths=1.4)


def _rectangles(
    drawn: Sequence[Box], plane: int | None, centre: tuple[int, ...]
) -> Iterator[tuple[tuple[float, float], tuple[float, float], int, str]]:
    """Corner ``(x, y)``, size, class and text of the boxes that the displayed slice cuts."""
    rows, columns = _axes_of(plane)
    for edges, number, text in drawn:
        dims = len(edges) // 2
        if plane is None or edges[plane] <= centre[plane] + 0.5 < edges[dims + plane]:
            size = (edges[dims + columns] - edges[columns], edges[dims + rows] - edges[rows])
            yield (edges[columns], edges[rows]), size, number, text


def _rectangle(axes: Axes, corner: tuple[float, float], size: tuple[float, float], number: int, style: str) -> None:
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor=class_color(number), linestyle=style, linewidth=1.4))


def _labelled(boxes: Mapping[str, Sequence[Box]], plane: int | None, centre: tuple[int, ...]) -> list[Label]:
    """All boxes of a panel as labels; those without text only keep other labels away."""
    found = (label for drawn in boxes.values() for label in _rectangles(drawn, plane, centre))
    return [
        Label((x, y, x + width, y + height), text, class_color(number))
        for (x, y), (width, height), number, text in found
    ]


def class_color(number: int) -> str:
    """Return the colour of a class as ``#rrggbb``."""
    return COLORS[(int(number) - 1) % len(COLORS)]


def _legend(
    figure: Figure, classes: Mapping[int, str], masks: Mapping, boxes: Mapping, styles: Mapping[str, LineStyle]
) -> None:
    from matplotlib.lines import Line2D

    shown = {int(n) for mask in masks.values() for n in np.unique(mask)}
    shown |= {number for drawn in boxes.values() for _, number, _ in drawn}
    handles = [Line2D([], [], color=class_color(n), label=name) for n, name in classes.items() if n in shown]
    if len(styles) > 1:
        handles += [Line2D([], [], color="gray", linestyle=style, label=who) for who, style in styles.items()]
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=9, frameon=False)
