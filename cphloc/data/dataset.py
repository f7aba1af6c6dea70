"""What every data set is: classes, channels, and cases in fixed splits."""

from __future__ import annotations

import csv
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from cphloc import paths
from cphloc.data.case import Case
from cphloc.errors import DataError, InputError, NotFoundError, did_you_mean

Split = Literal["train", "val", "test"]
_DELIMITERS = (",", ";", "\t")
SPLITS: tuple[Split, ...] = ("train", "val", "test")


class Dataset(ABC):
    """Base of the data sets.

    Attributes:
        classes: number 1..K -> name.
        channels: names of the image channels, in order.
        dims: 2 or 3.
        laterality: whether a class or label names a side of the body, so that mirroring changes its meaning.
        root: folder of the data.
    """

    dims: int
    classes: dict[int, str]
    channels: tuple[str, ...]
    laterality: bool = False
    root: Path

    def cases(self, split: Split) -> list[Case]:
        """Cases of ``train``, ``val`` or ``test``, always in the same order.

        Raises:
            InputError: there is no such split.
        """
        if split not in SPLITS:
            msg = f"split '{split}' does not exist; choose one of {', '.join(SPLITS)}. {did_you_mean(split, SPLITS)}"
            raise InputError(msg.rstrip())
        return self._cases(split)

    @abstractmethod
    def _cases(self, split: Split) -> list[Case]:
        """Cases of a split that is known to exist."""


def find_root(name: str, root: str | None, proof: str) -> Path:
    """Folder of data set ``name``: ``root`` if given, else the first data folder that holds it.

    Args:
        name: name of the data set and of its folder.
        root: what the recipe says.
        proof: a file or folder that must lie in the root.

    Raises:
        NotFoundError: naming every folder that was searched.
    """
    candidates = [Path(root).expanduser()] if root is not None else [f / name for f in paths.data_folders()]
    for folder in candidates:
        if (folder / proof).exists():
            return folder
    searched = ", ".join(f"'{c}'" for c in candidates)
    msg = (
        f"data set '{name}' not found: no '{proof}' in {searched}; "
        f"run `cphloc data fetch {name}`, or set data.root or CPHLOC_DATA"
    )
    raise NotFoundError(msg)


def read_table(path: Path, needed: Sequence[str]) -> list[dict[str, str]]:
    """Rows of a CSV file with a header line; a spreadsheet's semicolons, tabs and byte order mark are understood.

    Raises:
        DataError: the file cannot be read, lacks one of the ``needed`` columns, or has a longer row.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            heading = file.readline()
            file.seek(0)
            reader = csv.DictReader(file, delimiter=max(_DELIMITERS, key=heading.count))
            rows, columns = list(reader), reader.fieldnames or ()
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        msg = f"{path}: cannot be read as CSV ({error}); save it as UTF-8 text with a header line"
        raise DataError(msg) from error
    missing = [c for c in needed if c not in columns]
    if missing:
        hint = did_you_mean(missing[0], columns)
        msg = (
            f"{path}: has no column '{missing[0]}', only {', '.join(columns) or 'an empty first line'}; add it. {hint}"
        )
        raise DataError(msg.rstrip())
    long = next((n for n, row in enumerate(rows, start=2) if None in row), None)
    if long is not None:
        msg = f"{path}:{long}: has more cells than the header line; put a cell that holds a comma into double quotes"
        raise DataError(msg)
    return rows


def held_out(patient: str, fraction: float) -> bool:
    """Whether ``patient`` belongs to the validation part carved out of the training cases.

    The decision hashes the patient alone, so it never changes when cases are added.
    """
    return hashed_split(patient, fraction, 0.0) == "val"


def hashed_split(patient: str, val: float, test: float) -> Split:
    """Split of a patient by a hash of its name, with about these fractions in val and test.

    >>> [hashed_split(str(i), 0.2, 0.1) for i in range(1000)].count("val")
    212
    """
    place = int.from_bytes(hashlib.sha256(patient.encode()).digest()[:8], "big") / 2**64
    if place < val:
        return "val"
    return "test" if place < val + test else "train"


def choose_channels(wanted: Sequence[str] | None, available: Sequence[str]) -> tuple[str, ...]:
    """The ``wanted`` channels, or all of them.

    Raises:
        InputError: a channel that does not exist, or none at all.
    """
    chosen = tuple(available) if wanted is None else tuple(wanted)
    for name in chosen:
        if name not in available:
            msg = (
                f"channel '{name}' does not exist; choose from {', '.join(available)}. {did_you_mean(name, available)}"
            )
            raise InputError(msg.rstrip())
    if not chosen or len(set(chosen)) != len(chosen):
        msg = f"channels must be distinct and at least one, got {list(chosen)}"
        raise InputError(msg)
    return chosen
