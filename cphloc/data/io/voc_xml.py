"""Read boxes and classes from Pascal VOC annotation files."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

from cphloc.data.io.content import read_content
from cphloc.data.io.text import decode
from cphloc.errors import DataError, did_you_mean

_ENCODING = re.compile(rb"\s*<\?xml[^>]*encoding=[\"']([A-Za-z0-9_.-]+)[\"']")


def read_voc_boxes(path: Path, classes: Mapping[int, str]) -> tuple[tuple[tuple[float, ...], ...], tuple[int, ...]]:
    """Read the boxes of one picture.

    VOC pixel indices start at 1 and include the last pixel (Everingham 2010), so the pixels ``xmin..xmax`` have the
    edge coordinates ``xmin - 1`` and ``xmax``.

    Args:
        path: the XML file.
        classes: class number -> class name in the file.

    Returns:
        edge coordinates ``[y0, x0, y1, x1]`` in pixels and class number of each box; the number is negative for an
        object marked ``difficult``, which evaluations leave out.

    Raises:
        DataError: the file is damaged, or contains an unknown class or a box with a maximum below its minimum.
    """
    numbers = {name: number for number, name in classes.items()}
    boxes, box_classes = [], []
    for number, item in enumerate(_root(path).findall("object"), start=1):
        name = _name(item)
        if name not in numbers:
            hint = did_you_mean(name, numbers) or f"the classes are {', '.join(numbers)}"
            msg = f"{path}: object {number} has the undeclared class '{name}'; {hint}"
            raise DataError(msg)
        boxes.append(_edges(path, number, item))
        box_classes.append(-numbers[name] if _is_difficult(path, number, item) else numbers[name])
    return tuple(boxes), tuple(box_classes)


def read_voc_size(path: Path) -> tuple[int, int] | None:
    """Read the size (height, width) of the picture that was annotated; ``None`` where the file states none, or 0.

    Raises:
        DataError: the file is damaged.
    """
    root = _root(path)
    try:
        height, width = (int(float(root.findtext(f"size/{k}") or 0)) for k in ("height", "width"))
    except ValueError as error:
        msg = f"{path}: its size is no number ({error}); correct width and height"
        raise DataError(msg) from error
    return (height, width) if height > 0 and width > 0 else None


def read_voc_classes(path: Path) -> set[str]:
    """Read the class names of the objects in one annotation file.

    Raises:
        DataError: the file is damaged.
    """
    return {name for item in _root(path).findall("object") if (name := _name(item))}


def _root(path: Path) -> ElementTree.Element:
    """Root of the XML tree of an annotation in the layout of VOC."""
    content = read_content(path)
    try:
        root = _parsed(content)
    except (ValueError, LookupError, ElementTree.ParseError) as error:
        msg = f"{path}: is not a readable VOC annotation ({error}); copy it again"
        raise DataError(msg) from error
    unread = next((e.tag for e in root if e.tag != "object" and e.tag.rpartition("}")[2].lower() == "object"), None)
    if root.tag != "annotation" or unread is not None:
        what = f"its root is <{root.tag}>" if unread is None else f"it has <{unread}>"
        msg = f"{path}: is not in the layout of VOC: {what}, not <annotation> with <object>; export it as Pascal VOC"
        raise DataError(msg)
    return root


def _parsed(content: bytes) -> ElementTree.Element:
    """Parse XML; a file without a right encoding declaration may also be in Windows-1252 or UTF-16."""
    try:
        return ElementTree.fromstring(content)
    except (ValueError, ElementTree.ParseError):  # ValueError: an encoding that the parser does not support
        declared = _ENCODING.match(content)
        try:
            text = content.decode(declared[1].decode("ascii") if declared else "ascii")
        except (UnicodeError, LookupError):
            text = decode(content)
        return ElementTree.fromstring(re.sub(r"\A\s*<\?xml[^>]*\?>", "", text).strip())


def _is_difficult(path: Path, number: int, item: ElementTree.Element) -> bool:
    text = (item.findtext("difficult") or "0").strip().lower()
    if text not in ("0", "1", "true", "false", "unspecified"):
        msg = f"{path}: object {number} has '{text}' for difficult; it must be 0 or 1"
        raise DataError(msg)
    return text in ("1", "true")


def _name(item: ElementTree.Element) -> str:
    return (item.findtext("name") or "").strip()


def _edges(path: Path, number: int, item: ElementTree.Element) -> tuple[float, float, float, float]:
    try:
        x0, y0, x1, y1 = (float(item.findtext(f"bndbox/{k}") or "") for k in ("xmin", "ymin", "xmax", "ymax"))
    except ValueError as error:
        msg = f"{path}: object {number} lacks a number in its bndbox; it needs xmin, ymin, xmax and ymax"
        raise DataError(msg) from error
    if not all(map(math.isfinite, (x0, y0, x1, y1))):
        msg = f"{path}: object {number} has a coordinate that is not finite; correct its bndbox"
        raise DataError(msg)
    if x1 < x0 or y1 < y0:
        msg = f"{path}: object {number} has an inverted box {x0:g},{y0:g} to {x1:g},{y1:g}; swap its corners"
        raise DataError(msg)
    return y0 - 1, x0 - 1, y1, x1
