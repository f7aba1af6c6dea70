"""Locations of shipped files, data sets, cache and zoos, and atomic writing of files.

The locations are set by the environment variables ``CPHLOC_DATA``, ``CPHLOC_ZOO``, ``CPHLOC_REGISTRY`` (each may list
several folders, separated by ``:``, on Windows by ``;``) and ``CPHLOC_CACHE``. ``CPHLOC_OFFLINE=1`` forbids downloads.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cphloc.errors import CphlocError

_PACKAGE = Path(__file__).parent


@functools.cache
def shipped(folder: str) -> Path:
    """Return the shipped folder ``registry``, ``recipes`` or ``zoo``.

    It is inside the installed package, or next to the package in a checkout of the repository.
    """
    installed = _PACKAGE / "_data" / folder
    return installed if installed.is_dir() else _PACKAGE.parent / folder


def registry_folders() -> list[Path]:
    """Return the folders of component cards: the shipped one, then those of ``CPHLOC_REGISTRY``."""
    return [shipped("registry"), *_listed("CPHLOC_REGISTRY")]


def zoos() -> list[str]:
    """Return zoo folders and URLs in search order: those of ``CPHLOC_ZOO``, then the shipped zoo.

    ``CPHLOC_ZOO`` is separated by whitespace or, if it contains no URL, by the path separator of the system.
    """
    value = os.environ.get("CPHLOC_ZOO", "")
    separator = None if "://" in value or os.pathsep not in value else os.pathsep
    return [*(z for z in value.split(separator) if z), str(shipped("zoo"))]


def data_folders() -> list[Path]:
    """Return folders that may contain data sets, one sub-folder each: those of ``CPHLOC_DATA``, then the cache."""
    return [*_listed("CPHLOC_DATA"), cache() / "data"]


def cache() -> Path:
    """Return the folder for files that can be recreated, such as downloads and prepared images.

    It is ``CPHLOC_CACHE``, or ``cphloc`` in ``XDG_CACHE_HOME``, or ``~/.cache/cphloc``.
    """
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("CPHLOC_CACHE") or Path(base) / "cphloc")


def offline() -> bool:
    """Return True if ``CPHLOC_OFFLINE`` forbids downloads: if it is set to anything but ``0``."""
    return os.environ.get("CPHLOC_OFFLINE", "") not in ("", "0")


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Write a file atomically: yield a temporary path in the same folder that is renamed to ``path`` at the end.

    The temporary file has the same suffixes, for writers that choose the format by name. Missing folders are created.
    If the block raises an exception, the temporary file is removed and an existing ``path`` stays unchanged.

    Raises:
        CphlocError: the file cannot be written, for example because the disk is full.

    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp(), "notes.txt")
    >>> with atomic(target) as temporary:
    ...     _ = temporary.write_text("done")
    >>> target.read_text(), len(list(target.parent.iterdir()))
    ('done', 1)
    """
    import secrets

    path = Path(path)
    temporary = path.with_name(f".{secrets.token_hex(4)}.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        msg = f"{path}: cannot be written ({error.strerror or error}); free space, or choose another folder"
        raise CphlocError(msg) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def _listed(variable: str) -> list[Path]:
    return [Path(p).expanduser() for p in os.environ.get(variable, "").split(os.pathsep) if p]
