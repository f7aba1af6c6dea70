"""Print warnings and log messages as one line each, without control characters and secrets of addresses."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from cphloc.errors import one_line, without_secrets


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """Return the message of a record, which may quote a file of a stranger or an address."""
        return one_line(without_secrets(super().format(record)))


@contextmanager
def safe_messages() -> Iterator[None]:
    """Context manager in which warnings, and messages that no other handler takes, are safe to print."""
    last, before = logging.lastResort, warnings.formatwarning
    form = last.formatter if last is not None else None
    warnings.formatwarning = _warning
    if last is not None:
        last.setFormatter(_Formatter())
    try:
        yield
    finally:
        warnings.formatwarning = before
        if last is not None:
            last.setFormatter(form)


def _warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Write a warning for people without its place in the code, which only those of libraries keep."""
    where = "warning" if category is UserWarning else f"{filename}:{lineno}: {category.__name__}"
    return one_line(without_secrets(f"{where}: {message}")) + "\n"
