"""Decode text files as editors and spreadsheets write them."""

from __future__ import annotations

import codecs
from pathlib import Path

from cphloc.data.io.content import check_regular
from cphloc.errors import DataError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order marks and the encodings that they announce; UTF-32 before UTF-16, whose mark is its beginning."""


def read_text(path: Path) -> str:
    """Read a text file in UTF-8, in UTF-16 or UTF-32 with a byte order mark, or in Windows-1252 (Latin-1).

    Raises:
        DataError: the file cannot be read, or is not text.
    """
    check_regular(path)
    try:
        content = path.read_bytes()
        return decode(content)
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror}); check the file"
        raise DataError(msg) from error
    except UnicodeError as error:
        found = "a workbook or archive" if content.startswith(b"PK") else "not text"
        msg = f"{path}: is {found}; save it as text in UTF-8"
        raise DataError(msg) from error


def decode(content: bytes) -> str:
    """Decode text by its byte order mark, else as UTF-8, else as Windows-1252; NUL characters are refused.

    Raises:
        UnicodeError: the content is not text in any of these encodings.

    >>> decode("Läsion".encode("latin-1"))
    'Läsion'
    """
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), None)
    if encoding is None and len(content) > 1:  # without a mark, Latin letters have a zero byte each
        encoding = {(False, True): "utf-16-le", (True, False): "utf-16-be"}.get(
            (not any(content[:16:2]), not any(content[1:16:2]))
        )
    try:
        text = content.decode(encoding or "utf-8")
    except UnicodeDecodeError:
        if encoding is not None:
            raise
        text = content.decode("cp1252")
    if "\0" in text:
        msg = "the content has NUL characters"
        raise UnicodeError(msg)
    return text
