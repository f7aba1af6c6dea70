"""``zoo.json``, the index of a zoo: one row per version, so that listing reads one file instead of every entry."""

from __future__ import annotations

import functools
import json
import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cphloc
from cphloc import paths
from cphloc.config import jsonio, yamlio
from cphloc.config.nodes import Limits
from cphloc.errors import MAX_NAME, DataError, NotFoundError, RecipeError
from cphloc.files import atomic
from cphloc.zoo.inside import lies_in, read_inside
from cphloc.zoo.names import (
    ENTRY_FILE,
    INDEX_FILE,
    MAX_ENTRY_BYTES,
    MAX_ENTRY_VALUES,
    MAX_RANGE,
    NAME_PATTERN,
    VERSION_PATTERN,
    sha256_of,
)

if TYPE_CHECKING:
    from cphloc.download import DownloadError
    from cphloc.zoo.entry import Entry

FORMAT = 1
MAX_INDEX_BYTES = 32_000_000
"""Largest size of an index: some 25,000 versions."""

_NAME = re.compile(NAME_PATTERN)
_VERSION = re.compile(VERSION_PATTERN)


@dataclass(frozen=True, slots=True)
class Row:
    """Facts of one version for listing, filtering and resolving; ``sha256`` and ``entry_bytes`` pin ``entry.yaml``.

    ``supersedes`` is missing from indexes of earlier versions of cphloc.
    """

    name: str
    version: str
    summary: str
    task: str
    dims: int
    modality: list[str]
    classes: dict[str, str]
    data: str
    licence: str
    split: str
    metrics: dict[str, list[float | None]]
    parameters: int
    weights_bytes: int
    requires_cphloc: str
    published: str
    sha256: str
    entry_bytes: int
    supersedes: list[str] = field(default_factory=list)

    def differing(self, other: Row) -> list[str]:
        """List the fields in which two rows differ."""
        return [name for name in self.__slots__ if getattr(self, name) != getattr(other, name)]

    @classmethod
    def of(cls, entry: Entry, content: bytes) -> Row:
        """Make the row of an entry from its ``entry.yaml``; metrics become ``[value, low, high]``."""
        return cls(
            name=entry.name,
            version=entry.version,
            summary=entry.summary,
            task=entry.task,
            dims=entry.dims,
            modality=entry.modality,
            classes={str(number): name for number, name in entry.classes.items()},
            data=entry.data.name,
            licence=entry.data.licence,
            split=entry.evaluation.split,
            metrics={name: [m.value, m.low, m.high] for name, m in entry.evaluation.metrics.items()},
            parameters=entry.size.parameters,
            weights_bytes=entry.weights.bytes,
            requires_cphloc=entry.requires_cphloc,
            published=entry.origin.published,
            sha256=sha256_of(content),
            entry_bytes=len(content),
            supersedes=entry.supersedes,
        )


def row_of(content: bytes, source: str) -> Row:
    """Make the row of an entry, also of one that only a later cphloc can read.

    Args:
        content: content of ``entry.yaml``.
        source: name of the file in messages.

    Raises:
        RecipeError: the entry is not valid, and does not need a later cphloc.
    """
    from cphloc.zoo.entry import Entry

    try:
        return Row.of(Entry.parse(content, source), content)
    except RecipeError:
        plain = yamlio.read(content, source, Limits(MAX_ENTRY_BYTES, MAX_ENTRY_VALUES)).plain
        requires = plain.get("requires_cphloc") if isinstance(plain, dict) else None
        if not isinstance(requires, str) or is_supported(requires):
            raise
        return _row_of_later(plain, requires, content)


def _row_of_later(plain: Mapping[str, Any], requires: str, content: bytes) -> Row:
    """Make the row of an entry whose fields this version does not know, from those that it does."""
    text = {key: str(plain.get(key, "")) for key in ("name", "version", "summary", "task")}
    dims, modality = plain.get("dims"), plain.get("modality")
    return Row(
        name=text["name"],
        version=text["version"],
        summary=text["summary"],
        task=text["task"],
        dims=dims if isinstance(dims, int) else 0,
        modality=[str(one) for one in modality] if isinstance(modality, list) else [],
        classes={},
        data="",
        licence="",
        split="",
        metrics={},
        parameters=0,
        weights_bytes=0,
        requires_cphloc=requires,
        published="",
        sha256=sha256_of(content),
        entry_bytes=len(content),
    )


@functools.cache
def is_supported(requires: str) -> bool:
    """Return whether this version of cphloc is in a range such as ``>=0.2,<1``; False for an invalid range."""
    from packaging.specifiers import SpecifierSet

    try:
        return len(requires) <= MAX_RANGE and SpecifierSet(requires).contains(cphloc.__version__, prereleases=True)
    except ValueError:  # InvalidSpecifier is one, and so is a number of too many digits
        return False


def index_zoo(folder: str | Path) -> Path:
    """Write the index of every entry in a zoo folder, and return its path.

    It is written again while versions are published meanwhile: whichever of several processes writes it last has
    looked for versions after its writing, so none is lost.

    Raises:
        RecipeError: with the mistakes of an entry that cannot be read.
    """
    folder = Path(folder)
    written, there = None, _entry_folders(folder)
    while written != there:
        _write_index(folder, there)
        written, there = there, _entry_folders(folder)
    return folder / INDEX_FILE


def _entry_folders(zoo: Path) -> list[Path]:
    return sorted(path for _, _, path in version_folders(zoo, lambda name: True) if lies_in(zoo, path))


def _write_index(zoo: Path, folders: Iterable[Path]) -> None:
    rows = []
    for path in folders:
        content = read_inside(path, ENTRY_FILE, MAX_ENTRY_BYTES + 1)
        rows.append(row_of(content, str(path / ENTRY_FILE)))
    rows.sort(key=lambda row: (row.name, row.version))
    text = jsonio.dumps({"format": FORMAT, "entries": [asdict(row) for row in rows]}, indent=1, ensure_ascii=False)
    with atomic(zoo / INDEX_FILE) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_index(path: Path) -> list[Row]:
    """Read the rows of an index file.

    Raises:
        DataError: the file is not an index, or a row has an invalid name or version.
    """
    return parse_index(read_inside(path.parent, path.name, MAX_INDEX_BYTES + 1), str(path))


def parse_index(content: bytes, source: str) -> list[Row]:
    """Parse the content of an index file; ``source`` is its name in messages. Raises as `read_index` does."""
    try:
        if len(content) > MAX_INDEX_BYTES:
            msg = f"more than {MAX_INDEX_BYTES:,} bytes"
            raise ValueError(msg)
        index = json.loads(content)
        if index["format"] != FORMAT:
            msg = f"format {index['format']!r} where {FORMAT} is expected"
            raise ValueError(msg)
        return [_row(values) for values in index["entries"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        msg = f"{source}: not an index of a zoo ({error}); write it with 'cphloc zoo index'"
        raise DataError(msg) from None


def remote_index(base: str) -> list[Row]:
    """Read the index of the zoo at a URL, or warn and use the last copy where the zoo cannot be reached."""
    from cphloc.download import DownloadError, read_url

    url = f"{base}/{INDEX_FILE}"
    kept = paths.cached("zoo", "indexes", f"{sha256_of(url.encode())}.json")
    try:
        content = read_url(url)
    except NotFoundError as error:
        msg = f"{error}; a zoo at a URL needs its index: run 'cphloc zoo index' on its folder"
        raise NotFoundError(msg) from None
    except DownloadError as error:
        return _last_index(kept, error)
    rows = parse_index(content, url)
    with atomic(kept) as temporary:
        temporary.write_bytes(content)
    return rows


def _last_index(kept: Path, error: DownloadError) -> list[Row]:
    """Read the last copy of an index.

    Without one this is an error rather than an empty zoo: the search would go on to the next zoo and might return
    another model of the same name.
    """
    from cphloc.download import DownloadError

    if paths.offline():
        return read_index(kept) if kept.is_file() else []
    if not kept.is_file():
        msg = f"{error}; remove it from CPHLOC_ZOO or set CPHLOC_OFFLINE=1 to work without this zoo"
        raise DownloadError(msg)
    warnings.warn(f"{error}; using the last copy of its index", stacklevel=2)
    return read_index(kept)


def version_folders(zoo: Path, accept: Callable[[str], object]) -> Iterator[tuple[str, str, Path]]:
    """Yield name, version and folder of each version in a zoo folder whose name ``accept`` approves.

    Only ``<name>/<version>/`` counts; half-written versions have names that begin with a dot.
    """
    if not zoo.is_dir():
        return
    with os.scandir(zoo) as names:
        accepted = [n for n in names if _NAME.fullmatch(n.name) and n.is_dir() and accept(n.name)]
    for name in accepted:
        with os.scandir(name.path) as versions:
            for version in versions:
                if _VERSION.fullmatch(version.name) and version.is_dir():
                    yield name.name, version.name, Path(version.path)


def _row(values: Any) -> Row:
    """Check a row that may come from someone else's zoo: its name and version become parts of paths."""
    row = Row(**{key: value for key, value in values.items() if key in _KINDS})  # later versions may add keys
    names = len(row.name) <= MAX_NAME and _NAME.fullmatch(row.name) and len(row.version) <= MAX_NAME
    if not (names and _VERSION.fullmatch(row.version) and isinstance(row.entry_bytes, int)):
        msg = f"{str(row.name)[:100]!r} at version {str(row.version)[:100]!r} is not a valid entry"
        raise ValueError(msg)
    if wrong := [name for name, kind in _KINDS.items() if not _is_kind(getattr(row, name), kind)]:
        msg = f"{row.name} {row.version} has a value of the wrong type in '{wrong[0]}'"
        raise ValueError(msg)
    if not (0 <= row.entry_bytes <= MAX_ENTRY_BYTES and re.fullmatch(r"[0-9a-f]{64}", row.sha256)):
        msg = f"{row.name} {row.version} has no valid sha256 or size"
        raise ValueError(msg)
    return row


_KINDS: dict[str, tuple[type, bool]] = {
    name: ({"int": int, "str": str, "list[str]": list}.get(kind, dict), kind in ("list[str]", "dict[str, str]"))
    for name, kind in Row.__annotations__.items()
}
"""Type of each field of `Row`, and whether what it contains has to be text; metrics contain numbers."""


def _is_kind(value: Any, kind: tuple[type, bool]) -> bool:
    """Return whether a value read from JSON has the type of a field; the numbers of metrics are not looked at."""
    if type(value) is not kind[0]:
        return False
    inside = (value.values() if isinstance(value, dict) else value) if kind[1] else ()
    return {str}.issuperset(map(type, inside))
