"""Images listed in a CSV table: the general-purpose data set."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

from cphloc.config.argument_types import NonNegativeInt, PositiveFloat, PositiveInt, UnitInterval
from cphloc.data.case import AnnotationSource, Case, annotation_or_problem, one_hot
from cphloc.data.case_folder import find_cases
from cphloc.data.case_table import OPTIONAL
from cphloc.data.dataset import OWN_ROOT, Dataset, find_root, hashed_split
from cphloc.data.io.formats import split_series
from cphloc.data.io.table import Row, column_names, read_table
from cphloc.errors import DataError, InputError, did_you_mean
from cphloc.structures.annotation import class_names
from cphloc.structures.split import SPLITS, Split
from cphloc.structures.units import ScaledUnit

_UNNAMED = "(no file named)"
_NO_TABLE = (
    "write data.table: null to find masks by the names of the images, or begin a table with: cphloc data template "
    "cases.csv; data.root is the folder, relative to the recipe"
)
_UNIT = "unit_"
"""Prefix of the columns that state the unit of a channel."""


class ImageFolder(Dataset):
    """Cases listed in a CSV table, one row per case; cells may be empty.

    ====================  ==============================================================================
    column                holds
    ====================  ==============================================================================
    ``image``             file relative to ``root``; with several channels one column ``image_<channel>`` each,
                          or ``image`` for files that hold all of them, such as colour pictures
    ``unit_<channel>``    optional unit of an image whose file states none, where it is not that of the channel: ``SUV``
    ``case``              optional name; by default the file's
    ``patient``           optional; all cases of a patient are in one split
    ``split``             optional ``train``, ``val`` or ``test``; where empty, a hash of the patient decides
    ``mask``              optional file, whole numbers 0..K (or 0 and 255), or RTSTRUCT, SEG, ``.seg.nrrd``
    ``instances``         optional file whose values number the objects, so that touching ones stay apart
    ``instance_classes``  their classes, ``mass;cyst`` for objects 1 and 2; not needed where there is one class
    ``instances_<class>``  optional, instead: one such file per class
    ``region``            optional image of where the finding may be located
    ``label``             optional class names present, separated by ``;``, or ``none``
    ``boxes``             optional JSON ``[[class, lo..., hi...], ...]``: voxel edges in array order; ``[]`` is none
    ====================  ==============================================================================

    Any other column is an error unless its name begins with ``x-``: it holds notes, which nothing reads.

    Args:
        root: folder of the table.
        table: file name of the table; ``None`` lists the cases from the names of files and folders, see
            `cphloc.data.case_folder.find_cases`.
        classes: class number -> name, or names that are numbered from 1.
        channels: names of the channels.
        dims: 2 for pictures, 3 for volumes.
        voxel_mm: voxel size in mm, in array axis order, for files that store none.
        rois: name of a region in RTSTRUCTs, SEGs and Slicer segmentations, with wildcards -> class; by default the
            names of the classes.
        laterality: whether classes are specific to a body side.
        mask_of: what the value 1 of a mask stands for: class 1 (``classes``), or the class of the case (``label``), as
            where all masks are binary.
        val: fraction of the patients without ``split`` that are assigned to the validation split.
        test: fraction of the patients without ``split`` that are assigned to the test split.
        hold_out: fraction of the patients of the training split that are moved to the validation split, for a table
            that states none.
        split_seed: another number divides the patients otherwise.

    Raises:
        NotFoundError: the table does not exist.
        InputError: classes or channels are not distinct.
    """

    def __init__(
        self,
        root: str | None = None,
        table: str | None = "cases.csv",
        classes: Sequence[str] | Mapping[int, str] = ("object",),
        channels: Sequence[str] = ("image",),
        dims: Literal[2, 3] = 3,
        voxel_mm: Sequence[PositiveFloat] | None = None,
        rois: Mapping[str, PositiveInt] | None = None,
        laterality: bool = False,
        mask_of: Literal["classes", "label"] = "classes",
        val: UnitInterval = 0.15,
        test: UnitInterval = 0.15,
        hold_out: UnitInterval = 0.0,
        split_seed: NonNegativeInt = 0,
    ) -> None:
        self.root = find_root("image_folder", root, table or ".", _NO_TABLE if table else OWN_ROOT)
        self.table = self.root if table is None else self.root / table
        self.listed = table is not None
        self.classes = class_names(classes)
        self.channels = tuple(channels)
        self.dims = dims
        self.voxel_mm = None if voxel_mm is None else tuple(voxel_mm)
        self.rois = dict(rois) if rois is not None else {name: number for number, name in self.classes.items()}
        self.laterality = laterality
        self.mask_of = mask_of
        self.val, self.test, self.hold_out, self.split_seed = val, test, hold_out, split_seed

    def _cases(self, split: Split) -> list[Case]:
        by_channel = tuple(f"image_{channel}" for channel in self.channels)
        units = tuple(f"{_UNIT}{channel}" for channel in self.channels)
        optional = (*OPTIONAL, *units, *(f"instances_{name}" for name in self.classes.values()))
        names = column_names(self.table) if self.listed else [name for row in self._found[:1] for name in row]
        columns = ("image",) if len(self.channels) == 1 or "image" in names else by_channel
        rows = self._found if not self.listed else read_table(self.table, columns, optional)
        if not self.listed and (lacking := [c for row in rows for c in columns if c not in row]):
            found = ", ".join(dict.fromkeys(c for row in rows for c in row if c.startswith("image")))
            msg = (
                f"{self.root}: no {lacking[0]} for channels {', '.join(self.channels)}; found {found}; add a cases.csv"
            )
            raise DataError(msg)
        cases = (self._case(row, columns, split) for row in rows)
        return [case for case in cases if case is not None]

    @property
    def rows(self) -> Sequence[Mapping[str, str]]:
        """Cells of each case by column name, from the table or from the names of the files."""
        return read_table(self.table, ()) if self.listed else self._found

    @cached_property
    def _found(self) -> Sequence[Mapping[str, str]]:
        return find_cases(self.root)

    def _where(self, row: Mapping[str, str]) -> str:
        return (
            f"{self.table}:{row.line}" if isinstance(row, Row) else str(self.root / (row.get("image") or row["case"]))
        )

    def _case(self, row: Mapping[str, str], columns: Sequence[str], split: Split) -> Case | None:
        """Case of a row; ``None`` if it is in another split."""
        where, chosen = self._where(row), row.get("split")
        if chosen and chosen not in SPLITS:
            hint = did_you_mean(chosen, SPLITS) or "use " + ", ".join(SPLITS)
            msg = f"{where}: split '{chosen}' does not exist; {hint}"
            raise DataError(msg)
        if chosen and chosen != split and not (chosen == "train" and self.hold_out):
            return None
        images = tuple(self._file(row[c] or _UNNAMED) for c in columns)
        is_series = split_series(images[0])[1] is not None
        name = row.get("case") or (images[0].name if is_series else images[0].name.partition(".")[0])
        patient = row.get("patient") or self.patient_of(name)
        if not chosen:
            chosen = hashed_split(patient, self.val, self.test, self.split_seed)
        elif chosen == "train" and self.hold_out:
            chosen = hashed_split(patient, self.hold_out, 0.0, self.split_seed)
        if chosen != split:
            return None
        annotation = annotation_or_problem(lambda: self._checked(row, columns, where))
        given = tuple(self._unit(row.get(f"{_UNIT}{channel}"), where) for channel in self.channels)
        if len(images) < len(self.channels) and any(given):
            msg = f"{where}: states the unit of one channel of a file with several; save each channel as a file"
            raise DataError(msg)
        return Case(name, patient, images, annotation, self.voxel_mm, given_units=given if any(given) else ())

    def _unit(self, text: str | None, where: str) -> ScaledUnit | None:
        try:
            return ScaledUnit.parse(text) if text else None
        except InputError as error:
            msg = f"{where}: {error}"
            raise DataError(msg) from error

    def _file(self, cell: str) -> Path:
        """File that a cell names, relative to the table, also with the separators of Windows."""
        path = self.root / cell
        return self.root / cell.replace("\\", "/") if "\\" in cell and not path.exists() else path

    def _checked(self, row: Mapping[str, str], columns: Sequence[str], where: str) -> AnnotationSource:
        empty = [c for c in columns if not row[c]]
        if empty:
            msg = f"{where}: column '{empty[0]}' is empty; name the image of this case, or remove the row"
            raise DataError(msg)
        return self._annotation(row, where)

    def _annotation(self, row: Mapping[str, str], where: str) -> AnnotationSource:
        numbers = {name: number for number, name in self.classes.items()}
        label, boxes, box_classes = None, None, ()
        if row.get("label"):
            names = [] if row["label"] == "none" else _names(row["label"], numbers)
            label = one_hot(tuple(_number(n, numbers, where) for n in names), len(numbers))
        if row.get("boxes"):
            boxes, box_classes = _boxes(row["boxes"], numbers, self.dims, where)
        mask, region = (self._file(row[c]) if row.get(c) else None for c in ("mask", "region"))
        values = None if mask is None or self.mask_of == "classes" else _value_of(label, where)
        rois = None if mask is None else self.rois
        instances = self._instances(row, numbers, where)
        if instances and (mask is not None or boxes is not None):
            msg = f"{where}: instances state mask and boxes already; leave the columns mask and boxes empty"
            raise DataError(msg)
        known = None if rois is None else (True,) * len(self.classes)
        return AnnotationSource(
            mask, values, rois, instances, boxes, box_classes, region=region, label=label, known=known
        )

    def _instances(
        self, row: Mapping[str, str], numbers: Mapping[str, int], where: str
    ) -> dict[Path, int | dict[int, int]] | None:
        cells = {name: row.get(f"instances_{name}") for name in numbers}
        files: dict[Path, int | dict[int, int]] = {self._file(file): numbers[n] for n, file in cells.items() if file}
        if row.get("instances"):
            classes: int | dict[int, int] = next(iter(numbers.values()))
            if row.get("instance_classes"):
                names = _names(row["instance_classes"], numbers)
                classes = {value: _number(n, numbers, where) for value, n in enumerate(names, start=1)}
            elif len(numbers) > 1:
                msg = f"{where}: instance_classes is empty; state the class of every object, separated by ';'"
                raise DataError(msg)
            files[self._file(row["instances"])] = classes
        return files or None


def _names(cell: str, numbers: Mapping[str, int]) -> list[str]:
    """Class names in a cell, separated by semicolons; a class name may itself contain a semicolon."""
    return [cell] if cell in numbers else [name.strip() for name in cell.split(";")]


def _value_of(label: Sequence[float] | None, where: str) -> dict[int, int]:
    """Value 1 of a mask -> the one class of the label; without a class, the mask must be empty."""
    present = [number for number, value in enumerate(label or (), start=1) if value]
    if label is None or len(present) > 1:
        msg = f"{where}: the mask is of the class in label (mask_of: label), which names {len(present)}; name one class"
        raise DataError(msg)
    return dict.fromkeys((1,), present[0]) if present else {}


def _number(name: str, numbers: Mapping[str, int], where: str) -> int:
    same = {unicodedata.normalize("NFC", known): known for known in numbers}
    name = same.get(unicodedata.normalize("NFC", name), name)  # accents are one character or two
    if name not in numbers:
        hint = did_you_mean(name, numbers) or f"the classes are {', '.join(numbers)}"
        msg = f"{where}: undeclared class '{name}'; {hint}"
        raise DataError(msg)
    return numbers[name]


def _boxes(
    text: str, numbers: Mapping[str, int], dims: int, where: str
) -> tuple[tuple[tuple[float, ...], ...], tuple[int, ...]]:
    try:
        rows = json.loads(text)
        if not isinstance(rows, list):
            msg = f"it is {type(rows).__name__}"
            raise ValueError(msg)
        boxes = tuple(tuple(float(v) for v in row[1:]) for row in rows)
        names = [str(row[0]) for row in rows]
    except (ValueError, TypeError, IndexError) as error:
        msg = f"{where}: boxes are not a JSON list of [class, lo..., hi...] ({error}); got '{text[:60]}'"
        raise DataError(msg) from error
    for box in boxes:
        if len(box) != 2 * dims or any(high < low for low, high in zip(box[:dims], box[dims:], strict=True)):
            msg = f"{where}: box {list(box)} must be {2 * dims} numbers [lo..., hi...] with lo <= hi"
            raise DataError(msg)
    return boxes, tuple(_number(n, numbers, where) for n in names)
