"""Read JSON files that may be damaged, nested without end, or no files at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cphloc.errors import CphlocError, DataError

MAX_BYTES = 1 << 30
"""Largest file that is read; the annotations of COCO have half of it."""


def read_json(path: Path, most: int = MAX_BYTES) -> Any:
    """Read a JSON file.

    Args:
        path: the file.
        most: largest size in bytes.

    Raises:
        DataError: it is not a regular file, too large, or not JSON.
    """
    try:
        if path.exists() and not path.is_file():
            msg = "it is not a regular file"
            raise ValueError(msg)
        if path.stat().st_size > most:
            msg = f"more than {most:,} bytes"
            raise ValueError(msg)
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        msg = f"{path}: cannot be read as JSON ({reason}); copy it again"
        raise DataError(msg) from error


@contextmanager
def well_formed(path: Path) -> Iterator[None]:
    """Context manager that converts the errors of a value of another type or place than expected to a `DataError`."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, RecursionError) as error:
        if isinstance(error, CphlocError):
            raise
        msg = f"{path}: holds a value of the wrong type, or lacks one ({type(error).__name__}: {error}); correct it"
        raise DataError(msg) from error
