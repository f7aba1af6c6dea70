"""Find the cases that command-line inputs refer to; results of an earlier prediction are never taken for images."""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cphloc.data.case_table import OPTIONAL
from cphloc.data.io.dicom_folder import is_dicom_image
from cphloc.data.io.formats import DICOM, PICTURE_SUFFIXES, case_name, image_suffix
from cphloc.data.io.table import NOTE, read_table
from cphloc.errors import NotFoundError
from cphloc.inference.result_files import is_result
from cphloc.paths import portable

_UNIT, _IMAGE = "unit_", "image_"
"""Prefixes of the columns of a table that state the unit, and the file, of a channel."""
_NOT_IMAGES = (_UNIT, "instances_", NOTE)
"""Prefixes of the columns that name no image."""
_RESERVED = {name.casefold(): name for name in ("image", *OPTIONAL)}


@dataclass(frozen=True)
class Case:
    """One image to predict.

    Args:
        name: start of the file names of its results.
        source: a file, a DICOM folder, or a file for each channel by channel name.
        units: unit by channel, from the columns ``unit_<channel>`` of a table; see `Localizer.predict`.
        problem: why it cannot be predicted, such as a name that is no file name; empty if it can.
    """

    name: str
    source: str | dict[str, str]
    problem: str = ""
    units: Mapping[str, str] = field(default_factory=dict)

    @property
    def files(self) -> list[str]:
        """The file or folder of every channel."""
        return list(self.source.values()) if isinstance(self.source, dict) else [self.source]


def cases_of(inputs: Sequence[str]) -> list[Case]:
    """Find the cases that command-line inputs refer to.

    Results of an earlier prediction (see `cphloc.inference.result_files.is_result`) are left out, and an image that
    several inputs refer to is one case.

    Args:
        inputs: each is an image file; a DICOM folder; a folder of these; a pattern with ``*`` or ``?``; a ``.csv`` file
            with one row per case, a column ``image`` or one per channel (``ct`` or ``image_ct``), and optionally
            ``case`` and the unit of channels, ``unit_<channel>``; other columns of ``cases.csv``, such as ``split`` and
            ``mask``, are not read; or ``ct=FILE,pet=FILE``.

    Returns:
        cases with unique names: equal names get the name of their folder as prefix, and then a number as suffix.

    Raises:
        NotFoundError: no file matches a pattern, or there are only results.
        DataError: a table cannot be read.
    """
    found = [case for text in inputs for case in _cases(text)]
    cases = list({(*case.files, case.name, *case.units.items()): case for case in found}.values())
    if not cases:
        msg = f"{', '.join(inputs)}: holds only results of an earlier prediction; give the folder of the images"
        raise NotFoundError(msg)
    return uniquely_named(cases)


def uniquely_named(cases: Sequence[Case]) -> list[Case]:
    """Give each case a name that files can have on every system.

    Cases that share a name, capital letters aside, get that of their folder as prefix, and then a number as suffix.
    """
    cases = [replace(case, name=portable(case.name)) for case in cases]
    for rename in (_with_folder, _with_number):
        cases = [replace(c, name=n) for c, n in zip(cases, _unique_names(cases, rename), strict=True)]
    return list(cases)


def _cases(text: str) -> Iterator[Case]:
    """Cases of one input of `cases_of`."""
    path = Path(text).expanduser()
    parts = [part.partition("=") for part in text.split(",")]
    if not path.exists() and all(sign for _, sign, _ in parts):
        twice = next((name for name, count in Counter(name for name, *_ in parts).items() if count > 1), None)
        problem = "" if twice is None else f"{text}: names the channel '{twice}' twice; name each channel once"
        yield Case(case_name(parts[0][2]), {name: file for name, _, file in parts}, problem)
    elif not path.exists() and glob.has_magic(text):
        matches = sorted(glob.glob(str(path), recursive=True))
        if not matches:
            msg = f"{text}: no file matches this pattern; put it in quotes and check the spelling"
            raise NotFoundError(msg)
        for match in matches:
            yield from _cases(match)
    elif path.suffix.lower() in (".csv", ".tsv") and not is_result(path):
        yield from _listed(path)
    elif path.is_dir():
        found = list(_in_folder(path, set()))
        yield from found if found or _holds_results(path) else [Case(path.resolve().name, text)]
    elif not is_result(path):
        yield Case(case_name(text), text)


def _in_folder(folder: Path, seen: set[Path]) -> Iterator[Case]:
    """Cases in a folder: one per image file, and one per folder of DICOM files, whose pictures are previews.

    Args:
        folder: the folder.
        seen: folders that were searched before, so that a link to one of them ends the search; extended in place.
    """
    if folder.resolve() in seen:
        return
    seen.add(folder.resolve())
    inside = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    files = [path for path in inside if path.is_file() and not is_result(path)]
    images = [path for path in files if image_suffix(path.name) not in ("", *DICOM.read)]
    if any(is_dicom_image(path) for path in files if path not in images):
        yield Case(folder.resolve().name, str(folder))
        images = [path for path in images if not path.name.lower().endswith(PICTURE_SUFFIXES)]
    yield from (Case(case_name(str(image)), str(image)) for image in images)
    for below in inside:
        if below.is_dir():
            yield from _in_folder(below, seen)


def _holds_results(folder: Path) -> bool:
    return any(is_result(path) for path in folder.rglob("*"))


def _listed(path: Path) -> Iterator[Case]:
    """Cases of a table, one per row; paths are relative to the file."""
    for row in read_table(path, needed=()):
        cells = {_RESERVED.get(key.casefold(), key): value for key, value in row.items() if value}
        units = {key.removeprefix(_UNIT): value for key, value in cells.items() if key.startswith(_UNIT)}
        files = {
            key.removeprefix(_IMAGE): str(path.parent / value)
            for key, value in cells.items()
            if key not in OPTIONAL and not key.startswith(_NOT_IMAGES)
        }
        where = f"{path}:{row.line}"
        if not files:
            problem = f"{where}: contains no image; give a column 'image', or one for each channel"
            yield Case(cells.get("case") or f"line-{row.line}", where, problem)
            continue
        source = files["image"] if list(files) == ["image"] else files
        name = cells.get("case") or case_name(next(iter(files.values())))
        yield Case(name, source, _name_problem(name, where), units)


def _name_problem(name: str, where: str) -> str:
    """Why results cannot be named after a case; empty if they can."""
    if name in (".", "..") or name != "".join(c for c in name if c.isprintable() and c not in "/\\"):
        return f"{where}: case {name!r} is no file name; use letters, digits, '-' and '_', without '/' and '\\'"
    return ""


def _unique_names(cases: Sequence[Case], rename: Callable[[Case, int], str]) -> list[str]:
    """Names of the cases; those that several cases share are replaced by ``rename(case, count)``."""
    many, seen = Counter(case.name.casefold() for case in cases), Counter()
    names = []
    for case in cases:
        key = case.name.casefold()
        seen[key] += 1
        names.append(rename(case, seen[key]) if many[key] > 1 else case.name)
    return names


def _with_folder(case: Case, number: int) -> str:
    """Name of a case with the name of its folder as prefix."""
    return portable(f"{Path(case.files[0]).resolve().parent.name}-{case.name}")


def _with_number(case: Case, number: int) -> str:
    """Name of a case with a number as suffix."""
    return f"{case.name}-{number}"
