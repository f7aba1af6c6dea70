"""Read tables in the CSV dialects of spreadsheets and statistics programs."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from cphloc.data.io.text import read_text
from cphloc.errors import DataError, did_you_mean

_DELIMITERS = (",", ";", "\t", "|")
_MOST_SHARED = 4096
NOTE = "x-"
"""Start of the name of a column that holds notes, which nothing reads."""


class Row(Mapping[str, str]):
    """Cells of one row by column name, without surrounding spaces; cells that the row lacks are empty.

    All rows of a table share one mapping of the columns, so that a table of a million rows fits into memory.

    Args:
        columns: place of each named column in ``cells``.
        cells: all cells of the row.
        line: line of the file on which the row ends, counted from 1.
    """

    __slots__ = ("_cells", "_columns", "line")

    def __init__(self, columns: Mapping[str, int], cells: tuple[str, ...], line: int) -> None:
        self._columns, self._cells, self.line = columns, cells, line

    def __getitem__(self, name: str) -> str:
        return self._cells[self._columns[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)


def read_table(path: Path, needed: Sequence[str], optional: Sequence[str] | None = None) -> list[Row]:
    """Read a CSV file with a header line.

    Cells may be separated by commas, semicolons, tabs or bars, and put into double or single quotes; spaces around
    cells, and blank rows, are left out. Names of columns are matched without regard to capital letters.

    Args:
        path: the file; see `cphloc.data.io.text.read_text` for the encodings.
        needed: required columns.
        optional: further columns that are read; any other is an error unless its name begins with ``x-``. ``None``
            allows every column.

    Raises:
        DataError: the file cannot be read, lacks a ``needed`` column, has a column twice or one that is not read, or
            has a row longer than the header.
    """
    text = _without_sep(read_text(path))
    try:
        rows = _cells(text, needed)
    except csv.Error as error:
        msg = f"{path}: cannot be read as CSV ({error}); save it as UTF-8 text with a header line"
        raise DataError(msg) from error
    head: Sequence[str] = rows[0][1] if rows else ()
    known = {name.casefold(): name for name in (*needed, *(optional or ()))}
    columns = [known.get(name.casefold(), name) for name in head]
    _check_columns(path, columns, needed, optional)
    places = {name: place for place, name in enumerate(columns) if name}
    read = (_row(f"{path}:{line}", columns, places, cells, line) for line, cells in rows[1:])
    return [row for row in read if any(row.values())]


def column_names(path: Path) -> list[str]:
    """Return the cells of the header line of a table, as they are written.

    Raises:
        DataError: the file cannot be read.
    """
    header = _header(_without_sep(read_text(path)))
    return [cell for _, cells in _cells(header, ()) for cell in cells]


def number(text: str) -> float:
    """Convert a cell to a number; a comma is accepted as decimal sign.

    Raises:
        ValueError: the text is not one number.

    >>> number("12,5"), number("1e-3")
    (12.5, 0.001)
    """
    return float(text.replace(",", ".") if text.count(",") == 1 and "." not in text else text)


def _without_sep(text: str) -> str:
    """Remove a first line that Excel writes."""
    return re.sub(r"\Asep=.\r?\n", "", text, count=1, flags=re.IGNORECASE)


def _header(text: str) -> str:
    """Return the first line that is not blank."""
    first = re.search(r"\S", text)
    if first is None:
        return ""
    start = max(text.rfind(end, 0, first.start()) for end in "\r\n") + 1
    end = re.compile(r"[\r\n]").search(text, start)
    return text[start : end.start() if end else None]


def _cells(text: str, needed: Sequence[str]) -> list[tuple[int, tuple[str, ...]]]:
    """Last line and cells of every row that is not blank; the delimiter is the one that fits the header best."""
    header = _header(text)
    quote = "'" if header.lstrip().startswith("'") else '"'
    wanted = {name.casefold() for name in needed}

    def _parsed(source: str, delimiter: str, strict: bool = False) -> list[tuple[int, tuple[str, ...]]]:
        file = io.StringIO(source, newline="")
        reader = csv.reader(file, delimiter=delimiter, quotechar=quote, skipinitialspace=True, strict=strict)
        shared = _Shared()
        rows = ((reader.line_num, tuple([shared[cell.strip()] for cell in row])) for row in reader)
        return [(line, row) for line, row in rows if any(row)]

    def _fit(delimiter: str) -> tuple[int, int]:
        names = [cell for _, row in _parsed(header, delimiter) for cell in row]
        return len(wanted & {name.casefold() for name in names}), len(names)

    delimiter = max(_DELIMITERS, key=_fit)
    try:
        return _parsed(text, delimiter, strict=True)
    except csv.Error as error:
        if "unexpected end" in str(error):
            msg = f"a quotation mark {quote} is not closed, so the rows after it are lost"
            raise csv.Error(msg) from None
        return _parsed(text, delimiter)  # text after a closing quotation mark, such as a space


class _Shared(dict[str, str]):
    """Text -> the same text once, for the first few thousand different ones: splits and labels occur in many rows."""

    def __missing__(self, text: str) -> str:
        if len(self) < _MOST_SHARED:
            self[text] = text
        return text


def _check_columns(path: Path, columns: Sequence[str], needed: Sequence[str], optional: Sequence[str] | None) -> None:
    missing = next((c for c in needed if c not in columns), None)
    if missing is not None:
        only = ", ".join(columns) or "an empty first line"
        msg = f"{path}: has no column '{missing}', only {only}; add it. {did_you_mean(missing, columns)}"
        raise DataError(msg.rstrip())
    twice = next((c for c, n in Counter(columns).items() if c and n > 1), None)
    if twice is not None:
        msg = f"{path}: has the column '{twice}' twice; remove or rename one"
        raise DataError(msg)
    if optional is None:
        return
    known = (*needed, *optional)
    unread = next((c for c in columns if c and c not in known and not c.lower().startswith(NOTE)), None)
    if unread is not None:
        free = [name for name in known if name not in columns]
        hint = did_you_mean(unread, free) or f"the columns are {', '.join(known)}."
        msg = f"{path}: nothing reads the column '{unread}'; {hint} To keep it as a note, call it '{NOTE}{unread}'"
        raise DataError(msg)


def _row(where: str, columns: Sequence[str], places: Mapping[str, int], cells: tuple[str, ...], line: int) -> Row:
    if any(cells[len(columns) :]):
        msg = f"{where}: has more cells than the header line; put a cell that holds a comma into double quotes"
        raise DataError(msg)
    unnamed = next((cell for name, cell in zip(columns[1:], cells[1:], strict=False) if cell and not name), None)
    if unnamed is not None:
        msg = f"{where}: '{unnamed}' is in a column without a name; name the column in the header line"
        raise DataError(msg)
    return Row(places, (*cells, *[""] * (len(columns) - len(cells))), line)
