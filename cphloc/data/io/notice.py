"""Log remarks about files without repeating them for every file of a data set."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from cphloc.errors import one_line

_log = logging.getLogger(__name__)
_said: set[tuple[str, str]] = set()


def notice(source: str | Path, what: str, every: bool = False) -> None:
    """Log what was read from a file in a way that its author should check.

    Args:
        source: the file.
        what: the remark, which continues the name of the file.
        every: whether to log it for every file; if False, once for all files of a folder.
    """
    place = str(source) if every else str(Path(source).parent)
    key = place, re.sub(r"[\d.]+", "", what)
    if key not in _said:
        _said.add(key)
        _log.warning("%s%s", one_line(f"{source}: {what}"), "" if every else " (said once for this folder)")
