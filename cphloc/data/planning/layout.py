"""Find out how a folder of a user's own data is laid out: data set type, dimension, channels and classes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cphloc.data.datasets.image_folder import ImageFolder
from cphloc.data.io.read import read_volume
from cphloc.data.planning.own_classes import find_classes
from cphloc.errors import CphlocError, DataError, InputError, NotFoundError, did_you_mean
from cphloc.registry import catalogue
from cphloc.structures.split import SPLITS

LAYOUT_MARKS = {
    "dataset.json": "nnunet",
    "ImageSets/Main": "voc",
    "annotations/instances_train.json": "coco",
    "data.yaml": "yolo",
    "classes.txt": "yolo",
    "annotations.csv": "luna16",
    "cases.csv": "image_folder",
}
"""File or folder by which a layout is recognized -> its data set; the first that exists counts."""

_COLOURS = ("red", "green", "blue")
"""Names of the channels of a colour picture."""


@dataclass(frozen=True)
class Layout:
    """A data set type and its arguments.

    Args:
        name: name of the data set's card.
        arguments: arguments to write into a recipe, such as ``root`` and ``classes``.
        dims: number of axes of the images, where the type takes ``dims``, which a recipe states once at its top.
        patient: pattern that finds the patient in the name of a case, see `Dataset.patient`.
    """

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    dims: int | None = None
    patient: str | None = None

    @property
    def place(self) -> str:
        """Folder of the data, or the name of the data set, for messages."""
        return str(self.arguments.get("root", self.name))

    @property
    def states_splits(self) -> bool:
        """Whether a table or folders state the split of cases."""
        return self.name == "image_folder" and any(row.get("split") for row in self.open().rows)

    def with_arguments(self, added: Mapping[str, Any]) -> Layout:
        """Return the layout with further arguments."""
        return replace(self, arguments={**self.arguments, **added})

    def open(self) -> Any:
        """Open the data set."""
        wired = {} if self.dims is None else {"dims": self.dims}
        dataset = catalogue.resolve("dataset", self.name)(**self.arguments, **wired)
        if self.patient is not None:
            dataset.patient = re.compile(self.patient)
        return dataset


def recognize(data: str, stated: Mapping[str, Any], dims: int | None = None) -> Layout:
    """Recognize a data set by its name or by the files of a folder.

    Args:
        data: name of a data set, or a folder.
        stated: arguments of the data set that are not to be found out.
        dims: number of axes of the images; ``None``: that of the first image.

    Raises:
        NotFoundError: there is no such data set or folder.
        InputError: the folder is empty, or its files are not annotated.
    """
    name, arguments = _named(data)
    arguments |= stated
    patient = arguments.pop("patient", None)
    if name == "image_folder":
        arguments = _with_own_classes(arguments)
    takes = {argument.name for argument in catalogue.arguments(catalogue.card("dataset", name))}
    found, channels = _first_image(Layout(name, arguments, 3 if _takes_dims(name) else None))
    layout = Layout(name, arguments, (dims or found or 3) if _takes_dims(name) else None, patient)
    if "channels" not in takes or "channels" in stated or "channels" in arguments or channels is None:
        return layout
    named = _COLOURS if channels == len(_COLOURS) else ("image",) if channels == 1 else None
    if named is None or named == tuple(layout.open().channels):
        return layout
    return layout.with_arguments({"channels": list(named)})


def _takes_dims(name: str) -> bool:
    return name in ("image_folder", "nnunet")


def _named(data: str) -> tuple[str, dict[str, Any]]:
    """Name and arguments of the data set that ``data`` names."""
    folder = Path(data).expanduser().resolve()
    if not folder.is_dir():
        if folder.exists():
            msg = f"{folder}: is a file; give the folder of the data set"
            raise InputError(msg)
        if data in catalogue.cards("dataset"):
            return data, {}
        hint = did_you_mean(data, catalogue.cards("dataset")) or "check the path; cphloc data list shows the data sets"
        msg = f"'{data}': no folder and no data set is called like this; {hint}"
        raise NotFoundError(msg)
    root = {"root": str(folder)}
    if folder.name in catalogue.cards("dataset") and _opens(folder.name, root):
        return folder.name, root
    for mark, name in LAYOUT_MARKS.items():
        if (folder / mark).exists():
            return name, root
    return "image_folder", {**root, "table": None}


def _opens(name: str, arguments: Mapping[str, Any]) -> bool:
    """Whether a folder that is called like a data set has its files."""
    try:
        return bool(catalogue.resolve("dataset", name)(**arguments).cases("train"))
    except (CphlocError, TypeError):
        return False


def _with_own_classes(arguments: dict[str, Any]) -> dict[str, Any]:
    """Add channels and classes, which the table or the files state."""
    given = {k: arguments[k] for k in ("root", "table") if k in arguments}
    opened = ImageFolder(**given)
    rows = opened.rows
    if not rows:
        msg = f"{opened.table}: lists no case; add a row per image"
        raise DataError(msg)
    channels = [name.removeprefix("image_") for name in rows[0] if name.startswith("image_")]
    if channels and "image" not in rows[0]:
        arguments = {"channels": channels, **arguments}
    if "classes" in arguments or "rois" in arguments:
        return arguments
    columns = [name for name in rows[0] if name == "image" or name.startswith("image_")]
    return {**arguments, **find_classes(opened.root, rows, columns)}


def _first_image(layout: Layout) -> tuple[int | None, int | None]:
    """Number of spatial axes and of channels of the first image that can be read; ``None`` if there is none."""
    dataset = layout.open()
    for split in SPLITS:
        for case in dataset.cases(split):
            try:
                volume = read_volume(case.images[0])
            except InputError:
                continue
            several = len(case.images) > 1
            return volume.dims, None if several else len(volume.array)
    return None, None
