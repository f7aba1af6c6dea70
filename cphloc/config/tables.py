"""Write CSV tables in which no cell is a formula, and read the cells back.

A spreadsheet evaluates a cell that begins with ``=``, ``+``, ``-`` or ``@`` (OWASP, CSV injection). File names, case
names and class names may come from a stranger, so such text is written with an apostrophe in front.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cphloc.errors import printable, without_secrets

_FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")


def write_table(
    path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any] | Sequence[Any]], newline: str = "\r\n"
) -> None:
    """Write a CSV file with a header line.

    Args:
        path: file to write.
        columns: names of the columns.
        rows: cells by column, of which missing ones stay empty, or in the order of the columns.
        newline: characters that end a line.
    """
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file, lineterminator=newline)
        writer.writerow([cell(column) for column in columns])
        for row in rows:
            values = [row.get(column, "") for column in columns] if isinstance(row, Mapping) else row
            writer.writerow([cell(value) for value in values])


def cell(value: Any) -> Any:
    """Return a value as it is written to a CSV file: text that a spreadsheet would evaluate begins with an apostrophe.

    >>> cell("=1+1"), cell("-1.5"), cell(-1.5), cell("lung")
    ("'=1+1", '-1.5', -1.5, 'lung')
    """
    if value is None or isinstance(value, int | float):
        return value
    text = printable(without_secrets(str(value)))
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) and not _is_number(text) else text


def text_of(stored: str) -> str:
    """Return the text of a cell that `cell` has written.

    >>> text_of("'=1+1"), text_of("lung")
    ('=1+1', 'lung')
    """
    return stored[1:] if stored[:1] == "'" and stored[1:].lstrip(" ").startswith(_FORMULA) else stored


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
