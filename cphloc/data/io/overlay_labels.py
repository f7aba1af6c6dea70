"""Place the labels of boxes in a picture where they cover neither an object nor another label."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cphloc.structures.annotation import IGNORE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Text

FONT_POINTS = 7
PAD_POINTS = 1
GAP_POINTS = 2.0
"""Distance between a label and its box, in points."""


class Label(NamedTuple):
    """A box in a picture, and the text to write beside it.

    Args:
        box: ``(x0, y0, x1, y1)`` in voxels of the panel.
        text: the text; empty to write none.
        color: colour of the box.
    """

    box: tuple[float, float, float, float]
    text: str
    color: str


def place_labels(axes: Axes, labels: Sequence[Label], masks: Sequence[np.ndarray] = ()) -> None:
    """Write the texts beside their boxes, each at the first free place above, below, right or left of its box.

    A label without a free place is left out, and the line below the panel counts those.

    Args:
        axes: the panel, with its final limits.
        labels: all boxes of the panel.
        masks: class masks ``(H, W)`` of the panel.
    """
    omitted = _place(axes, labels, masks)
    if omitted:
        for text in list(axes.texts):
            text.remove()
        written = sum(bool(label.text) for label in labels)
        below = axes.get_xlabel()
        axes.set_xlabel(f"{below}\n{omitted} of {written} labels left out for lack of space".strip(), fontsize=9)
        _place(axes, labels, masks)  # again, because the new line has changed the size of the panel


def _place(axes: Axes, labels: Sequence[Label], masks: Sequence[np.ndarray]) -> int:
    """Write the texts for which there is a free place, and return the number of the others."""
    figure = axes.get_figure(root=True)
    if figure is None or not any(label.text for label in labels):
        return 0
    figure.draw_without_rendering()  # the layout must be final before sizes of texts can be compared with boxes
    gap = GAP_POINTS * figure.dpi / 72
    panel = axes.get_window_extent()
    taken = [_on_screen(axes, label.box) for label in labels]
    objects = _pixels(axes, masks)
    omitted = 0
    for label in labels:
        if not label.text:
            continue
        text = _write(axes, label)
        size = _size(text, figure.dpi)
        for place in _places(_on_screen(axes, label.box), *size, gap):
            inside = panel.x0 <= place[0] and panel.y0 <= place[1] and place[2] <= panel.x1 and place[3] <= panel.y1
            if inside and not any(_overlap(place, other) for other in taken) and not _covers(place, objects):
                middle = (place[0] + place[2]) / 2, (place[1] + place[3]) / 2
                x, y = axes.transData.inverted().transform(middle)
                text.set_position((float(x), float(y)))
                taken.append(place)
                break
        else:
            text.remove()
            omitted += 1
    return omitted


def _write(axes: Axes, label: Label) -> Text:
    background = {"facecolor": label.color, "pad": PAD_POINTS, "lw": 0}
    return axes.text(
        0, 0, label.text, fontsize=FONT_POINTS, color="white", va="center", ha="center", clip_on=True, bbox=background
    )


def _size(text: Text, dpi: float) -> tuple[float, float]:
    """Width and height of a text with its background, in pixels."""
    extent, pad = text.get_window_extent(), 2 * PAD_POINTS * dpi / 72
    return float(extent.width) + pad, float(extent.height) + pad


Area = tuple[float, float, float, float]
"""``(x0, y0, x1, y1)`` in pixels of the figure."""


def _on_screen(axes: Axes, box: Area) -> Area:
    corners = np.asarray(axes.transData.transform([box[:2], box[2:]]))
    (x0, y0), (x1, y1) = corners.min(axis=0), corners.max(axis=0)
    return float(x0), float(y0), float(x1), float(y1)


def _places(box: Area, width: float, height: float, gap: float) -> Iterator[Area]:
    """Places of a label around its box, the best first."""
    x0, y0, x1, y1 = box
    above, below, right, left = y1 + gap, y0 - gap - height, x1 + gap, x0 - gap - width
    for x in (x0, x1 - width, (x0 + x1 - width) / 2):
        for y in (above, below):
            yield x, y, x + width, y + height
    for y in (y1 - height, y0, (y0 + y1 - height) / 2):
        for x in (right, left):
            yield x, y, x + width, y + height
    for x, y in ((right, above), (left, above), (right, below), (left, below)):
        yield x, y, x + width, y + height


def _overlap(first: Area, second: Area) -> bool:
    return first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]


def _pixels(axes: Axes, masks: Sequence[np.ndarray]) -> np.ndarray:
    """Centres ``(n, 2)`` of all voxels of objects, in pixels of the figure."""
    inside = [np.argwhere((mask > 0) & (mask != IGNORE))[:, ::-1] + 0.5 for mask in masks]
    points = np.concatenate([np.zeros((0, 2)), *inside])
    return np.asarray(axes.transData.transform(points)) if len(points) else points


def _covers(place: Area, points: np.ndarray) -> bool:
    within = (points >= place[:2]) & (points <= place[2:])
    return bool(within.all(axis=1).any())
