"""Read files of an entry's folder, and nothing that a link in it leads to elsewhere.

A folder may come from a stranger, for example as a git repository, which may hold links to any path of this machine.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path

from cphloc.errors import DataError


def file_inside(folder: Path, file: str) -> Path:
    """Return the path of a file in a folder; it need not exist.

    Args:
        folder: folder of the entry; itself it may be a link.
        file: path relative to the folder.

    Raises:
        DataError: it is a link that leads out of the folder or nowhere, or a device, a pipe or a folder.
    """
    path = folder / file
    try:
        real = path.resolve(strict=os.path.lexists(path))
        inside, regular = real.is_relative_to(folder.resolve()), real.is_file() or not real.exists()
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is a loop of links"
        msg = f"{path}: cannot be read ({reason}); download or publish the entry again"
        raise DataError(msg) from None
    if not inside:
        msg = f"{path}: is a link that leads out of its folder; put the file itself there"
        raise DataError(msg)
    if not regular:
        msg = f"{path}: is not a regular file; download or publish the entry again"
        raise DataError(msg)
    return path


def lies_in(zoo: Path, folder: Path) -> bool:
    """Return whether a folder lies in a zoo, and not only a link to it; warn otherwise.

    What lies elsewhere is not published with a zoo: in the zoo of a stranger, a link may lead to any folder.
    """
    try:
        inside = folder.resolve(strict=True).is_relative_to(zoo.resolve())
    except (OSError, RuntimeError):
        inside = False
    if not inside:
        warnings.warn(f"{folder}: is a link that leads out of the zoo, and is left out; copy the folder", stacklevel=3)
    return inside


def read_inside(folder: Path, file: str, most: int) -> bytes:
    """Read at most ``most`` bytes of a file in a folder.

    Raises:
        DataError: as `file_inside`, or the file cannot be read.
    """
    path = file_inside(folder, file)
    try:
        with path.open("rb") as stream:
            return stream.read(most)
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror}); download or publish the entry again"
        raise DataError(msg) from None


def files_below(folder: Path) -> set[str]:
    """List everything in a folder and its subfolders except folders; links are listed and not followed."""
    found = set()
    for place, folders, files in os.walk(folder, followlinks=False):
        links = [name for name in folders if (Path(place) / name).is_symlink()]
        found |= {(Path(place) / name).relative_to(folder).as_posix() for name in (*files, *links)}
    return found
