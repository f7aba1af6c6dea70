"""Open a folder of cases from elsewhere for a model: as its own data set, as a table of images, or by file names."""

from __future__ import annotations

from pathlib import Path

from cphloc.data.dataset import Dataset
from cphloc.data.io.table import read_table
from cphloc.data.pipeline.pipeline import open_dataset
from cphloc.data.pipeline.seen import SeenData
from cphloc.errors import DataError, NotFoundError
from cphloc.inference.localizer import Localizer
from cphloc.recipe.fields import Data
from cphloc.structures.split import SPLITS

TABLE = "cases.csv"
"""Name of the table of images."""


def open_external(localizer: Localizer, root: str, seen: SeenData | None = None) -> Dataset:
    """Open the folder ``root`` for a model.

    A folder with a table `TABLE` that has a column ``image``, or ``image_<channel>`` for each channel, is read as
    `cphloc.data.datasets.image_folder.ImageFolder` with the classes and channels of the model, whatever data set the
    model was trained on; without a column ``split``, all cases are test cases, except in the folder of the training
    itself, whose splits are those of the recipe. Other folders are read as the data set of the recipe. Where that is
    not in the folder, images are paired with masks by their names, as `cphloc.data.case_folder.find_cases` does;
    without folders ``train``, ``val`` and ``test``, all are test cases.

    Args:
        localizer: the model.
        root: the folder.
        seen: what the model was trained on; ``None`` where that is not known.

    Raises:
        NotFoundError: it is none of these.
    """
    data, folder = localizer.recipe.data, Path(root).expanduser()
    table = folder / TABLE
    if table.is_file() and _lists_images(table) and (data.type != "image_folder" or "split" not in _columns(table)):
        every = _images(localizer, root, TABLE)
        if data.type != "image_folder" or (seen and not seen.leaks(every.cases("test"), "test", own=False)):
            return every
    try:
        own = open_dataset(data.model_copy(update={"root": root}), localizer.recipe.dims)
        if table.is_file() or any(own.cases(split) for split in SPLITS):
            return own
        why = f"{root}: holds no case of data set '{data.type}'"
    except NotFoundError as error:
        why = str(error)
    try:
        found = _images(localizer, root, None)
        found.cases("test")
    except (DataError, NotFoundError) as error:
        listed = f"or list its images and masks in {table}: cphloc data template > {table}"
        msg = f"{why}; nor are there images with a mask each: {error}; {listed}"
        raise NotFoundError(msg) from None
    return found


def _images(localizer: Localizer, root: str, table: str | None) -> Dataset:
    """Data set of the images of a table, or of a folder where that is ``None``."""
    own = {"classes": dict(localizer.classes), "channels": list(localizer.recipe.channels), "val": 0.0, "test": 1.0}
    common = {"type": "image_folder", "root": root, "table": table, "units": _units(localizer)}
    data = Data.model_validate({**common, **own, "skip_bad": localizer.recipe.data.skip_bad})
    return open_dataset(data, localizer.recipe.dims)


def _lists_images(table: Path) -> bool:
    return any(key == "image" or key.startswith("image_") for key in _columns(table))


def _columns(table: Path) -> list[str]:
    return [key for row in read_table(table, ())[:1] for key in row]


def _units(localizer: Localizer) -> dict[str, str]:
    """Unit of each channel of the model, to which files that state theirs are converted."""
    return {name: str(channel.unit) for name, channel in localizer.recipe.inputs.items()}
