"""Show 3-D results in a page, turned and windowed, with NiiVue: in one file, without a server or a network.

NiiVue is read at run time from the package ipyniivue, which the extra ``view`` installs; a page holds the library, and
copies of the images with at most `MOST_VOXELS` voxels along an axis.
"""

from __future__ import annotations

import base64
import importlib.util
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cphloc.config import jsonio
from cphloc.data.io.overlay import class_color
from cphloc.data.io.write import write_volume
from cphloc.errors import DataError
from cphloc.inference.html_page import rendered
from cphloc.structures.geometry import Geometry
from cphloc.structures.merging import of_part

MOST_VOXELS = 128
"""Largest number of voxels along an axis that a page holds; larger images are averaged down."""

_TEMPLATE = Path(__file__).with_name("templates") / "viewer.html"
_CLASS = re.compile(r'"Creating new Niivue instance"\).{0,200}?=new ([\w$]+)\(', re.DOTALL)
_EXPORT = re.compile(r"export\s*\{[^{}]*\}\s*;?\s*$")


def is_available() -> bool:
    """Return whether the extra ``view`` is installed."""
    return importlib.util.find_spec("ipyniivue") is not None


def viewer_script() -> str:
    """Return JavaScript of NiiVue and of the viewer; it is a module.

    Raises:
        DataError: the installed ipyniivue is not of a version in which the library can be found.
    """
    spec = importlib.util.find_spec("ipyniivue")
    folder = Path(spec.origin).parent if spec is not None and spec.origin else Path()
    source = (folder / "static" / "widget.js").read_text(encoding="utf-8")
    name, export = _CLASS.search(source), _EXPORT.search(source)
    if name is None or export is None:
        msg = f"{folder}: this version of ipyniivue is not known; install another: pip install 'cphloc[view]'"
        raise DataError(msg)
    own = Path(__file__).with_name("viewer.js").read_text(encoding="utf-8")
    return f"{source[: export.start()]};\nconst Niivue = {name[1]};\n{own}"


def viewer_html(scenes: Sequence[Mapping[str, Any]]) -> str:
    """Return the HTML of a viewer of `scene` values; the page also needs `viewer_script`."""
    from markupsafe import Markup

    data = jsonio.dumps(list(scenes)).replace("<", "\\u003c")
    return rendered(_TEMPLATE, names=[scene["name"] for scene in scenes], data=Markup(data))


def scene(
    name: str,
    scan: np.ndarray,
    geometry: Geometry,
    mask: np.ndarray | None = None,
    attention: np.ndarray | None = None,
    boxes: Iterable[tuple[Sequence[float], int]] | None = None,
    classes: Mapping[int, str] | None = None,
    window: tuple[float, float] | None = None,
) -> dict[str, Any]:
    """Return a 3-D image and its result as values for JSON.

    Args:
        name: of the case.
        scan: one channel of the image, ``(D, H, W)``.
        geometry: its grid, which the result shares.
        mask: class numbers.
        attention: map of numbers from 0; it is shown relative to its largest.
        boxes: voxel edges ``[lo..., hi...]`` and class number of each box.
        classes: class number -> name, of each part where a head merges classes.
        window: centre and width of the grey values to show; by default the 2nd to the 98th percentile.
    """
    steps = tuple(-(-size // MOST_VOXELS) for size in geometry.shape)
    coarse = _coarse_grid(geometry, steps)
    grey = _coarse(scan.astype(np.float32), steps, np.mean)
    low, high = (
        np.percentile(grey, (2, 98)) if window is None else (window[0] - window[1] / 2, window[0] + window[1] / 2)
    )
    shown = {"low": float(low), "high": float(max(high, low + 1e-6))}
    layers = [{"name": "scan", "kind": "grey", "data": _nifti(grey, coarse), **shown}]
    names = {} if classes is None else classes
    if attention is not None:
        strongest = _coarse(attention, steps, np.max)
        share = strongest / max(float(strongest.max()), 1e-12)
        layers.append({"name": "attention", "kind": "heat", "data": _nifti(share.astype(np.float32), coarse)})
    if mask is not None:
        layers.append(_labels("mask", _coarse(mask, steps, np.max), coarse, of_part(names, "mask")))
    if boxes is not None:
        layers.append(_labels("boxes", _frames(boxes, coarse.shape, steps), coarse, of_part(names, "boxes")))
    return {"name": name, "layers": layers}


def _labels(name: str, values: np.ndarray, geometry: Geometry, names: Mapping[int, str]) -> dict[str, Any]:
    """Return a layer of class numbers with the colour of each."""
    found = [int(number) for number in np.unique(values) if number]
    labels = [{"number": n, "name": names.get(n, str(n)), "colour": class_color(n)} for n in found]
    return {"name": name, "kind": "labels", "data": _nifti(values.astype(np.uint8), geometry), "labels": labels}


def _coarse_grid(geometry: Geometry, steps: Sequence[int]) -> Geometry:
    """Return the grid of blocks of ``steps`` voxels."""
    spacing = np.asarray(geometry.spacing_mm)
    shift = geometry.direction @ (spacing * (np.asarray(steps) - 1) / 2)
    shape = tuple(-(-size // step) for size, step in zip(geometry.shape, steps, strict=True))
    origin = tuple(float(o) for o in np.asarray(geometry.origin_mm) + shift)
    return replace(geometry, shape=shape, spacing_mm=tuple(map(float, spacing * steps)), origin_mm=origin)


def _coarse(values: np.ndarray, steps: Sequence[int], reduce: Any) -> np.ndarray:
    """Reduce each block of ``steps`` voxels to one; blocks at the far edges are completed by repetition."""
    padding = [(0, -size % step) for size, step in zip(values.shape, steps, strict=True)]
    whole = np.pad(values, padding, mode="edge")
    blocks = [part for size, step in zip(whole.shape, steps, strict=True) for part in (size // step, step)]
    return reduce(whole.reshape(blocks), axis=(1, 3, 5))


def _frames(boxes: Iterable[tuple[Sequence[float], int]], shape: Sequence[int], steps: Sequence[int]) -> np.ndarray:
    """Draw the twelve edges of each box into a volume of class numbers."""
    drawn = np.zeros(shape, np.uint8)
    for voxels, number in boxes:
        corners = np.asarray(voxels).reshape(2, 3) / steps
        low = np.clip(np.floor(corners[0]), 0, np.asarray(shape) - 1).astype(int)
        high = np.clip(np.ceil(corners[1]) - 1, low, np.asarray(shape) - 1).astype(int)
        inside = drawn[tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))]
        at_end = np.zeros(inside.shape, int)
        for axis in range(3):
            line = np.zeros(inside.shape[axis], int)
            line[[0, -1]] = 1
            at_end += line.reshape([-1 if axis == other else 1 for other in range(3)])
        inside[at_end >= 2] = number
    return drawn


def _nifti(values: np.ndarray, geometry: Geometry) -> str:
    """Return an image as compressed NIfTI in base64."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.nii.gz"
        write_volume(path, values, geometry)
        return base64.b64encode(path.read_bytes()).decode()
