"""Where things are: the shipped folders, the user's data, cache and zoos.

Environment: ``CPHLOC_DATA``, ``CPHLOC_ZOO``, ``CPHLOC_CACHE``, ``CPHLOC_REGISTRY`` (several separated by the system's
path separator), ``CPHLOC_OFFLINE``.
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


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Write a file wholly or not at all: yields a temporary path beside it that becomes ``path`` at the end.

    The temporary file has the same suffixes, for writers that choose the format by name. Folders are made. Where the
    block fails, nothing is left behind and an older ``path`` stays as it was.

    Raises:
        CphlocError: the operating system refuses, for instance because the disk is full.

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
