"""List the files that an image consists of, and hash their contents.

An image may be one file, a header with its voxels in other files, or a folder of DICOM files.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from cphloc.data.io.content import check_regular
from cphloc.data.io.formats import image_format, split_series
from cphloc.errors import DataError
from cphloc.files import is_temporary


def source_files(source: str | Path) -> list[Path]:
    """Return every file that is read for an image, sorted: all files of a folder, or a header and its voxel files.

    Args:
        source: image file, folder, or ``folder#SeriesInstanceUID``.
    """
    path, _ = split_series(source)
    if path.is_dir():
        return sorted(p for p in path.rglob("*") if p.is_file() and not is_temporary(p, path))
    try:
        found = image_format(path)
        return [path, *(found.load_lister()(path) if found is not None and found.lister else ())]
    except (DataError, OSError):  # damaged or missing: reading it reports that
        return [path]


def content_digest(source: str | Path) -> bytes:
    """Return the SHA-256 of the contents of all files of an image; names and dates are not hashed.

    Raises:
        DataError: a file cannot be read.
    """
    digests = [_file_digest(file) for file in source_files(source)]
    return digests[0] if len(digests) == 1 else hashlib.sha256(b"".join(digests)).digest()


def _file_digest(path: Path) -> bytes:
    check_regular(path)  # a pipe would block, and a device never end
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror}); check the file"
        raise DataError(msg) from error
