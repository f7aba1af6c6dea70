"""Read the text files of YOLO: one object per line, in fractions of the picture's size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from cphloc.data.io.outlines import Outline
from cphloc.data.io.text import read_text
from cphloc.errors import DataError

_ROUNDING = 1e-3
"""Distance outside [0, 1] that counts as rounding."""


def read_yolo_objects(
    path: Path, numbers: Mapping[int, int], keypoints: int = 0
) -> tuple[tuple[tuple[float, ...], ...], tuple[int, ...], tuple[Outline | None, ...] | None]:
    """Read the objects of one picture.

    A line is ``class x y width height``, with the centre of the box, or ``class x1 y1 x2 y2 x3 y3 ...``, a polygon of
    three or more points; a line that occurs twice counts once, as in Ultralytics' YOLO.

    Args:
        path: the text file.
        numbers: class in the file -> class number.
        keypoints: values of key points that follow each box, which are not read.

    Returns:
        edge coordinates ``[y0, x0, y1, x1]`` in fractions of the picture, class number and, if any line is a polygon,
        outline of each object.

    Raises:
        DataError: a line is neither a box nor a polygon, has an unknown class or a coordinate outside the picture.
    """
    boxes, classes, outlines = [], [], []
    lines = {line.strip(): number for number, line in reversed(list(enumerate(read_text(path).splitlines(), start=1)))}
    for line, number in sorted(lines.items(), key=lambda item: item[1]):
        if not line:
            continue
        index, values = _values(line, f"{path}:{number}", numbers)
        if keypoints and len(values) == 4 + keypoints:
            values = values[:4]
        box, outline = _box(values, f"{path}:{number}")
        boxes.append(box)
        classes.append(numbers[index])
        outlines.append(outline)
    return tuple(boxes), tuple(classes), tuple(outlines) if any(outlines) else None


def _values(line: str, where: str, numbers: Mapping[int, int]) -> tuple[int, tuple[float, ...]]:
    """Class and coordinates of a line."""
    try:
        first, *values = map(float, line.split())
    except ValueError as error:
        msg = f"{where}: is not a line of numbers ({error}); it must be a class and coordinates"
        raise DataError(msg) from error
    if first not in numbers:
        msg = f"{where}: has the undeclared class {first:g}; the classes are {', '.join(map(str, numbers))}"
        raise DataError(msg)
    return int(first), tuple(values)


def _box(values: tuple[float, ...], where: str) -> tuple[tuple[float, ...], Outline | None]:
    """Box ``[y0, x0, y1, x1]`` and outline of the coordinates of a line."""
    if len(values) != 4 and (len(values) < 6 or len(values) % 2):
        msg = f"{where}: has {len(values)} coordinates; a box has 4, a polygon an even number from 6 on"
        raise DataError(msg)
    if not all(math.isfinite(v) and -_ROUNDING <= v <= 1 + _ROUNDING for v in values):
        msg = f"{where}: has a coordinate outside [0, 1]; divide pixels by the width and height of the picture"
        raise DataError(msg)
    if len(values) == 4:
        x, y, width, height = values
        return (y - height / 2, x - width / 2, y + height / 2, x + width / 2), None
    columns, rows = values[::2], values[1::2]
    return (min(rows), min(columns), max(rows), max(columns)), Outline((values,))
