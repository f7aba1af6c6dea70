"""Open a folder of cases from elsewhere for a model: as its own data set, or as a table of images."""

from __future__ import annotations

from pathlib import Path

from cphloc.data.dataset import Dataset
from cphloc.data.io.table import read_table
from cphloc.data.pipeline.pipeline import open_dataset
from cphloc.errors import NotFoundError
from cphloc.inference.localizer import Localizer
from cphloc.recipe.recipe import Data

TABLE = "cases.csv"
"""Name of the table of images."""


def open_external(localizer: Localizer, root: str) -> Dataset:
    """Open the folder ``root`` for a model.

    A folder with a table `TABLE` that has a column ``image``, or ``image_<channel>`` for each channel, is read as
    `cphloc.data.datasets.image_folder.ImageFolder` with the classes and channels of the model, whatever data set the
    model was trained on; without a column ``split``, all cases are test cases. Other folders are read as the data set
    of the recipe.

    Args:
        localizer: the model.
        root: the folder.

    Raises:
        NotFoundError: it is neither.
    """
    data, table = localizer.recipe.data, Path(root).expanduser() / TABLE
    if data.type != "image_folder" and table.is_file() and _lists_images(table):
        own = {"classes": dict(localizer.classes), "channels": list(localizer.recipe.channels), "val": 0.0, "test": 1.0}
        common = {"type": "image_folder", "root": root, "units": _units(localizer), "skip_bad": data.skip_bad}
        return open_dataset(Data.model_validate({**common, **own}), localizer.recipe.dims)
    try:
        return open_dataset(data.model_copy(update={"root": root}), localizer.recipe.dims)
    except NotFoundError as error:
        msg = f"{error}; or list the images and masks of the folder in {table}: cphloc data template > {table}"
        raise NotFoundError(msg) from None


def _lists_images(table: Path) -> bool:
    return any(key == "image" or key.startswith("image_") for row in read_table(table, ())[:1] for key in row)


def _units(localizer: Localizer) -> dict[str, str]:
    """Unit of each channel of the model, to which files that state theirs are converted."""
    return {name: str(channel.unit) for name, channel in localizer.recipe.inputs.items()}
