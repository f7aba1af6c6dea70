"""Locations of shipped files, data sets, cache and zoos.

The locations are set by the environment variables ``CPHLOC_DATA``, ``CPHLOC_ZOO``, ``CPHLOC_REGISTRY`` (each may list
several folders, separated by ``:``, on Windows by ``;``) and ``CPHLOC_CACHE``. ``CPHLOC_OFFLINE=1`` forbids downloads.
"""

from __future__ import annotations

import functools
import os
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

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


def names_a_folder(spec: str | Path) -> bool:
    """Return whether a user's text is written as a folder: with a slash, or as ``.`` or ``..``.

    A bare name never is, because a folder of that name in the working folder could come from anyone.

    >>> names_a_folder("unet3d-ct"), names_a_folder("./unet3d-ct"), names_a_folder(Path("unet3d-ct"))
    (False, True, True)
    """
    return isinstance(spec, Path) or "/" in spec or "\\" in spec or spec in (".", "..")


def zoos() -> list[str]:
    """Return zoo folders and URLs in search order: those of ``CPHLOC_ZOO``, then the shipped zoo.

    Items are separated by whitespace or by the path separator of the system. A folder whose name contains spaces is
    recognized where it exists, or where the value contains no other separator.
    """
    return [*_zoos_in(os.environ.get("CPHLOC_ZOO", "")), str(shipped("zoo"))]


def _zoos_in(value: str) -> Iterator[str]:
    """Split the value of ``CPHLOC_ZOO`` into folders and URLs."""
    place = 0
    for url in re.finditer(rf"(?:^|(?<=[\s{os.pathsep}]))[a-z][a-z0-9+.-]+://\S+", value):
        yield from _folders_in(value[place : url.start()])
        yield url[0]
        place = url.end()
    yield from _folders_in(value[place:])


def _folders_in(value: str) -> Iterator[str]:
    """Split a list of folders at the path separator, and at whitespace where every part is a folder."""
    for part in map(str.strip, value.split(os.pathsep)):
        spaced = part.split()
        if Path(part).expanduser().is_dir() or not all(Path(p).expanduser().is_dir() for p in spaced):
            yield from [part] if part else []
        else:
            yield from spaced


def data_folders() -> list[Path]:
    """Return folders that may contain data sets, one sub-folder each: those of ``CPHLOC_DATA``, then the cache."""
    return list(dict.fromkeys([*_listed("CPHLOC_DATA"), cache() / "data", writable_cache() / "data"]))


def cache() -> Path:
    """Return the folder for files that can be recreated, such as downloads and prepared images.

    It is ``CPHLOC_CACHE``, or ``cphloc`` in ``XDG_CACHE_HOME``, or ``~/.cache/cphloc``. It may be read-only; a file to
    be written there has the path `cached`.
    """
    stated = os.environ.get("CPHLOC_CACHE")
    if stated:
        return Path(stated).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return Path(base or Path.home() / ".cache") / "cphloc"
    except RuntimeError:  # a user without a home folder, as in containers
        return _temporary_cache()


def cached(*parts: str) -> Path:
    """Return the path of an item in the cache.

    Where the cache cannot be written, as in a container, and lacks the item, the path is in `writable_cache`.

    Args:
        parts: path of the item below the folder of the cache.
    """
    item = cache().joinpath(*parts)
    return item if os.path.exists(item) else writable_cache().joinpath(*parts)


def writable_cache() -> Path:
    """Return `cache` if it can be written; else a temporary folder of this user, after a warning."""
    folder = cache()
    if is_writable(folder):
        return folder
    other = _temporary_cache()
    _warn_once(f"the cache {folder} cannot be written; {other} is used. Set CPHLOC_CACHE to a folder of your own")
    return other


@functools.cache
def is_writable(folder: Path) -> bool:
    """Return whether files can be made in a folder, or the folder itself where it does not exist."""
    try:
        existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        with tempfile.TemporaryFile(dir=existing):
            return True
    except OSError:
        return False


@functools.cache
def _temporary_cache() -> Path:
    """A folder for temporary files that only this user can write; a new one where that name is taken by another."""
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    folder = Path(tempfile.gettempdir()) / f"cphloc-{user}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        own = not hasattr(os, "getuid") or (found.st_uid == os.getuid() and not found.st_mode & 0o022)
        if own and folder.is_dir() and not folder.is_symlink():
            return folder
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix="cphloc-"))


@functools.cache
def _warn_once(message: str) -> None:
    """Warn, unless this process has given the warning before."""
    warnings.warn(message, stacklevel=4)


def readable(name: str) -> str:
    """Return a file name as text that can be printed and stored.

    Bytes that are not UTF-8, which Python represents by surrogates, are read as Latin-1.

    >>> readable("M\\udcfcller"), readable("Müller")
    ('Müller', 'Müller')
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        return os.fsencode(name).decode("latin-1")
    return name


_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')
_DEVICE = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9\u00b9\u00b2\u00b3]) *(\..*)?", re.IGNORECASE | re.DOTALL
)


def portable(name: str) -> str:
    """Change a name as little as needed, so that every system can have a file of that name.

    Windows has none with some characters, none that ends with a dot or a space, and none that is called like a device,
    whatever its suffix.

    >>> portable("scan 12:30"), portable("aux.nii"), portable("..")
    ('scan 12-30', '_aux.nii', '_')
    """
    plain = _FORBIDDEN.sub("-", name).rstrip(". ")
    return f"_{plain}" if not plain or _DEVICE.fullmatch(plain) else plain


def offline() -> bool:
    """Return True if ``CPHLOC_OFFLINE`` forbids downloads: if it is set to anything but ``0``."""
    return os.environ.get("CPHLOC_OFFLINE", "") not in ("", "0")


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Return a decorator that compiles a function with numba and keeps the result on disk.

    The result is kept beside the source file. Where that folder and the home folder are read-only, as in a container,
    it is kept in the cache of cphloc; where nothing can be kept, every process compiles the function again. Without
    numba the function stays as it is, which is slower and gives the same results.

    Args:
        options: further arguments of `numba.njit`.

    >>> @compiled()
    ... def double(x):
    ...     return 2 * x
    >>> double(21)
    42
    """
    try:
        from numba import config, njit
    except ModuleNotFoundError:  # it has 180 MB; the extras train and fast install it
        return lambda function: function

    def _compile(function: Callable[..., Any]) -> Any:
        try:
            return njit(cache=True, **options)(function)
        except RuntimeError:  # numba finds no folder that it can write
            folder = getattr(config, "CACHE_DIR", "") or str(writable_cache() / "numba")
            setattr(config, "CACHE_DIR", folder)  # noqa: B010  (numba makes its settings at run time)
        try:
            return njit(cache=True, **options)(function)
        except RuntimeError:
            return njit(**options)(function)

    return _compile


def _listed(variable: str) -> list[Path]:
    return [Path(p).expanduser() for p in os.environ.get(variable, "").split(os.pathsep) if p]
