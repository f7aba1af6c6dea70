"""The brain tumours of figshare 1512427 from their MATLAB files: grey slices and masks of 256 x 256 pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from cphloc.data.io.table import read_table
from cphloc.data.rebuild.pictures import SIDE, resized_mask
from cphloc.errors import DataError, needs

LABELS = ("meningioma", "glioma", "pituitary")
"""Classes 1 to 3 of the files."""


def build(source: Path, target: Path) -> None:
    """Write image and mask of every case of ``target/cases.csv``; case ``0007`` is ``7.mat``.

    Args:
        source: folder that holds ``1.mat`` to ``3064.mat``, at any depth.
        target: folder of the data set, with its table.

    Raises:
        DataError: a file is missing, damaged, or of another class than the table states.
        MissingExtraError: h5py, which reads the files, is not installed.
    """
    (target / "images").mkdir()
    (target / "masks").mkdir()
    files = {path.name: path for path in sorted(source.rglob("*.mat"))}
    for row in read_table(target / "cases.csv", needed=("case", "label")):
        name = f"{int(row['case'])}.mat"
        if name not in files:
            msg = f"{source}: has no file '{name}'; unpack the four archives of the page into one folder and give that"
            raise DataError(msg)
        image, mask, label = read_slice(files[name])
        if label != row["label"]:
            msg = f"{files[name]}: is a {label}, but the table states {row['label']}; download the archives again"
            raise DataError(msg)
        Image.fromarray(image).save(target / "images" / f"{row['case']}.jpg", quality=95)
        Image.fromarray(mask).save(target / "masks" / f"{row['case']}.png")


def read_slice(path: Path) -> tuple[np.ndarray, np.ndarray, str]:
    """Read a file of the collection.

    Returns:
        slice ``(256, 256)`` uint8, scaled from its least to its largest value; mask, 0 or 1; and the class.

    Raises:
        DataError: the file cannot be read.
        MissingExtraError: h5py is not installed.
    """
    with needs(f"{path}: a MATLAB file of version 7.3"):
        import h5py
    try:
        with h5py.File(path, "r") as file:
            held: Any = file["cjdata"]
            pixels = np.asarray(held["image"], np.float64).T
            border = np.asarray(held["tumorBorder"], np.float64).ravel()
            label = LABELS[int(np.asarray(held["label"]).ravel()[0]) - 1]
    except (OSError, KeyError, IndexError, ValueError, TypeError) as error:
        msg = f"{path}: is not a file of the collection ({error}); download the archives again"
        raise DataError(msg) from None
    span = max(float(pixels.max() - pixels.min()), 1.0)
    grey = Image.fromarray(np.round(255 * (pixels - pixels.min()) / span).astype(np.uint8))
    outline = Image.new("L", grey.size)
    corners = [(float(x), float(y)) for x, y in zip(border[1::2], border[::2], strict=True)]
    ImageDraw.Draw(outline).polygon(corners, outline=1, fill=1)
    small = grey.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    return np.asarray(small), resized_mask(np.asarray(outline) > 0), label
