"""Write files and folders so that an error, a full disk, a kill or a power cut leaves the earlier state or the new one.

Everything is written beside its place under a temporary name, flushed to the disk and renamed. What a killed process
leaves behind has a hidden name that no reader takes, and is removed by the next one that writes to the same folder.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cphloc.errors import CphlocError

_TEMPORARY = re.compile(r"\.cphloc-(?P<system>[0-9a-f]{8})-(?P<process>\d+)-[0-9a-f]{6}\.")
_KEPT_SECONDS = 24 * 3600
"""Age from which the temporary file of a process that cannot be checked is removed."""
_LONGEST_NAME = 50
"""Characters at the end of a name that its temporary name repeats: the suffix tells a writer the format."""


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Write a file atomically: yield a temporary path in the same folder that is renamed to ``path`` at the end.

    The temporary file has the same suffixes, for writers that choose the format by name. Missing folders are created.
    The permissions follow the umask, also with writers that make files for their owner alone. The content is on the
    disk before the file is renamed, and the name before this returns.
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
    path = Path(path)
    temporary = temporary_beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent)
        temporary.touch(exist_ok=False)
        mode = temporary.stat().st_mode & 0o777
        yield temporary
        temporary.chmod(mode)  # some writers make files for their owner alone
        flush(temporary)
        temporary.replace(path)
        flush(path.parent)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def atomic_folder(folder: Path, durable: bool = True) -> Iterator[Path]:
    """Make a folder atomically: yield a temporary folder beside it that is renamed to ``folder`` at the end.

    A folder that exists by then, because another process was faster, is kept. The permissions follow the umask.

    Args:
        folder: the folder to make.
        durable: whether all files are flushed to the disk first; False for files that are checked when they are read.

    Raises:
        CphlocError: the folder cannot be written, for example because the disk is full.
    """
    with temporary_folder(folder) as aside:
        yield aside
        if durable:
            flush_all(aside)
        if rename_folder(aside, folder) and durable:
            flush(folder.parent)


@contextmanager
def temporary_folder(beside: Path) -> Iterator[Path]:
    """Make a folder to prepare files in, on the same disk as ``beside``; it is removed at the end.

    Args:
        beside: file or folder that errors name; its folder is created if it is missing.

    Raises:
        CphlocError: it cannot be written, for example because the disk is full.
    """
    aside = temporary_beside(beside)
    try:
        beside.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(beside.parent)
        aside.mkdir()
        yield aside
    except CphlocError as error:
        if isinstance(error.__cause__, OSError):  # of a file in it, whose name means nothing to anyone
            raise unwritable(beside, error.__cause__) from error.__cause__
        raise
    except OSError as error:
        raise unwritable(beside, error) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def rename_folder(source: Path, target: Path) -> bool:
    """Rename a folder; returns False where ``target`` exists already, which is kept."""
    try:
        source.rename(target)
    except OSError:
        if target.is_dir():
            return False
        raise
    return True


def append(path: Path, content: bytes) -> None:
    """Append a complete line to a file of lines, or nothing; a line that a crash has cut is ended first.

    Args:
        path: the file; created if it does not exist.
        content: the line, with its line break.

    Raises:
        CphlocError: it cannot be written, for example because the disk is full; the file is as before.
    """
    try:
        with path.open("ab+", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            cut = size and file.seek(-1, os.SEEK_END) and file.read(1) != b"\n"
            content = b"\n" + content if cut else content
            try:
                if file.write(content) != len(content):
                    msg = "only a part was written; the disk may be full"
                    raise OSError(msg)
            except OSError:
                file.truncate(size)
                raise
    except OSError as error:
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError) -> CphlocError:
    """Make the error for a file or folder that cannot be written.

    >>> print(unwritable(Path("a.json"), OSError(28, "No space left on device")))
    a.json: cannot be written (No space left on device); free space, or choose another folder
    """
    return CphlocError(f"{path}: cannot be written ({error.strerror or error}); free space, or choose another folder")


def flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk, so that a power cut does not undo them."""
    if path.is_dir() and os.name == "nt":
        return  # Windows cannot flush a folder
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def flush_all(folder: Path) -> None:
    """Flush a folder with all files and folders in it, see `flush`."""
    for path in sorted(folder.rglob("*")):
        flush(path)
    flush(folder)


def temporary_beside(path: Path) -> Path:
    """Return a new hidden name beside ``path``, with the same suffix, that states which process writes it."""
    token = f".cphloc-{_system()}-{os.getpid()}-{secrets.token_hex(3)}"
    return path.with_name(f"{token}.{path.name[-_LONGEST_NAME:]}")


def is_temporary(path: Path, below: Path | None = None) -> bool:
    """Return whether the file or folder is one that a process is writing, or left behind when it was killed.

    Args:
        path: file or folder.
        below: folder; a file is also temporary where it lies in a temporary folder below this one.

    >>> is_temporary(temporary_beside(Path("scan.nii.gz"))), is_temporary(Path("scan.nii.gz"))
    (True, False)
    """
    names = (path.name,) if below is None else path.relative_to(below).parts
    return any(_TEMPORARY.match(name) for name in names)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files and folders of killed processes from a folder, once in each process.

    A file is removed if its process does not run any more; if that cannot be found out, because it ran on another
    machine or in another container, when the file is a day old.
    """
    _remove_leftovers(os.path.abspath(folder), os.getpid())


@functools.lru_cache(maxsize=4096)
def _remove_leftovers(folder: str, process: int) -> None:
    with suppress(OSError), os.scandir(folder) as found:
        for entry in [entry for entry in found if entry.name.startswith(".cphloc-")]:
            if not _is_abandoned(entry, process):
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                with suppress(OSError):
                    os.unlink(entry.path)


def _is_abandoned(entry: os.DirEntry[str], process: int) -> bool:
    stated = _TEMPORARY.match(entry.name)
    if stated is None:
        return False
    if stated["system"] == _system() and int(stated["process"]) != process and not _runs(int(stated["process"])):
        return True
    with suppress(OSError):  # another process has just renamed or removed it
        return time.time() - entry.stat(follow_symlinks=False).st_mtime > _KEPT_SECONDS
    return False


def _runs(process: int) -> bool:
    """Whether a process of this system runs; True where that cannot be asked."""
    if os.name == "nt":
        return True  # there, signal 0 ends a process
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # of another user
        return True
    return True


@functools.cache
def _system() -> str:
    """Name of what numbers the processes: this machine since it was started, and the container."""
    parts = [platform.node()]
    with suppress(OSError):  # Linux
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]
