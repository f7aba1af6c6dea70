"""BUSI from the authors' archive: pictures and the united masks of their lesions, at 256 x 256 pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from cphloc.data.io.table import read_table
from cphloc.data.rebuild.pictures import SIDE, opened, resized_mask
from cphloc.errors import DataError


def build(source: Path, target: Path) -> None:
    """Write image and mask of every case of ``target/cases.csv``; ``benign_007`` is ``benign (7).png``.

    Args:
        source: folder that holds ``benign``, ``malignant`` and ``normal``, at any depth.
        target: folder of the data set, with its table.

    Raises:
        DataError: a picture is missing or damaged.
    """
    (target / "images").mkdir()
    (target / "masks").mkdir()
    files = {path.name: path for path in sorted(source.rglob("*.png"))}
    for row in read_table(target / "cases.csv", needed=("case", "class")):
        kind, _, number = row["case"].rpartition("_")
        name = f"{kind} ({int(number)})"
        if f"{name}.png" not in files:
            msg = f"{source}: has no picture '{name}.png'; give the whole folder Dataset_BUSI_with_GT or its archive"
            raise DataError(msg)
        picture = opened(files[f"{name}.png"]).convert("L")
        picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS).save(target / "images" / f"{row['case']}.png")
        united = np.zeros((picture.height, picture.width), bool)
        for file in (path for key, path in files.items() if key.startswith(f"{name}_mask")):
            mask = np.asarray(opened(file).convert("L")) > 127
            if mask.shape != united.shape:
                msg = f"{file}: has another size than its picture; download the archive again"
                raise DataError(msg)
            united |= mask
        mask = Image.fromarray(255 * resized_mask(united))
        mask.save(target / "masks" / f"{row['case']}.png")
