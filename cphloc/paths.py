"""Where things are: the shipped folders, the user's data, cache and zoos.

Environment: ``CPHLOC_DATA``, ``CPHLOC_ZOO``, ``CPHLOC_CACHE``, ``CPHLOC_REGISTRY`` (several separated by the system's
path separator), ``CPHLOC_OFFLINE``.
"""

from __future__ import annotations

import os
from pathlib import Path

_PACKAGE = Path(__file__).parent


def shipped(folder: str) -> Path:
    """The shipped ``registry``, ``recipes`` or ``zoo``: inside the installed package, or beside it in a checkout."""
    installed = _PACKAGE / "_data" / folder
    return installed if installed.is_dir() else _PACKAGE.parent / folder


def registry_folders() -> list[Path]:
    """Folders of cards: the shipped one, then those of ``CPHLOC_REGISTRY``."""
    return [shipped("registry"), *_listed("CPHLOC_REGISTRY")]


def zoos() -> list[str]:
    """Zoo folders and URLs in the order they are searched: those of ``CPHLOC_ZOO``, then the shipped one.

    Entries of ``CPHLOC_ZOO`` are separated by whitespace or, where no URL is among them, by the path separator.
    """
    value = os.environ.get("CPHLOC_ZOO", "")
    separator = None if "://" in value or os.pathsep not in value else os.pathsep
    return [*(z for z in value.split(separator) if z), str(shipped("zoo"))]


def data_folders() -> list[Path]:
    """Folders that may hold data sets, one sub-folder each: those of ``CPHLOC_DATA``, then the cache's."""
    return [*_listed("CPHLOC_DATA"), cache() / "data"]


def cache() -> Path:
    """Folder for what can be made again: prepared volumes, downloads."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("CPHLOC_CACHE") or Path(base) / "cphloc")


def offline() -> bool:
    """Whether ``CPHLOC_OFFLINE`` forbids every download."""
    return os.environ.get("CPHLOC_OFFLINE", "") not in ("", "0")


def _listed(variable: str) -> list[Path]:
    return [Path(p).expanduser() for p in os.environ.get(variable, "").split(os.pathsep) if p]
