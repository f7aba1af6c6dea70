"""Find other models of a name that a bare name does not refer to, because an earlier zoo has it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

from cphloc.errors import one_line, without_secrets
from cphloc.zoo.index import version_folders
from cphloc.zoo.inside import read_inside
from cphloc.zoo.names import ENTRY_FILE, MAX_ENTRY_BYTES, sha256_of


def warn_of_shadowed(name: str, version: str, sha256: str, place: str, later: Sequence[str]) -> None:
    """Warn where a later zoo on this machine, or the working folder, has another model of a name.

    Args:
        name: of the version that was found.
        version: ``1.2.0``.
        sha256: of its ``entry.yaml``.
        place: its zoo.
        later: zoos that are searched after it; those at URLs are not asked.
    """
    for other in dict.fromkeys(later):
        folder = local_folder(other)
        held = {} if folder is None else {v: path for _, v, path in version_folders(folder, lambda n: n == name)}
        same = version in held and _sha256(held[version]) == sha256
        if held and not same:
            _warn(f"{name}@{version} is from {place}, which hides '{name}' of {other}")
    if (Path(name) / ENTRY_FILE).is_file():
        _warn(f"{name}@{version} is from {place}; write ./{name} for the folder here")


def _warn(text: str) -> None:
    warnings.warn(one_line(without_secrets(text)), stacklevel=4)


def _sha256(folder: Path) -> str:
    """Hash of a version's ``entry.yaml``; empty where there is none."""
    return sha256_of(read_inside(folder, ENTRY_FILE, MAX_ENTRY_BYTES + 1)) if (folder / ENTRY_FILE).is_file() else ""


def local_folder(place: str) -> Path | None:
    """Return the folder of a zoo given as path or ``file://`` URL, or ``None`` for any other URL."""
    if place.startswith("file://"):
        from urllib.parse import unquote, urlsplit
        from urllib.request import url2pathname

        return Path(url2pathname(unquote(urlsplit(place).path)))
    return None if "://" in place else Path(place).expanduser()
