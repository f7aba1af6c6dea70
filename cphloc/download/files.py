"""Download files with mirrors, resumption and checksums; only complete and correct files appear under their name."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cphloc import paths
from cphloc.download.limits import MOST_BYTES, SourceError, TooLargeError, TooSlowError
from cphloc.download.transfer import RangeError, Readable, opened, pieces
from cphloc.errors import CphlocError, NotFoundError
from cphloc.progress import progress

TRIES_EACH = 3
"""Number of attempts per URL."""

BACKOFF_SECONDS = 0.5
"""Seconds to wait after the second attempt; twice as long after the third."""

PIECE_BYTES = 1 << 20
"""Number of bytes to read at once."""

MAX_SMALL_BYTES = 32_000_000
"""Largest file that is read into memory, such as an index of 10,000 entries."""


_MISSING = "does not exist"


class DownloadError(CphlocError):
    """Failed download; the message contains the failure of every URL.

    Attributes:
        missing: whether no URL has such a file.
    """

    missing = False


def download(
    urls: Sequence[str],
    path: Path,
    what: str,
    checksum: str | None = None,
    size_bytes: int | None = None,
    most_bytes: int = MOST_BYTES,
) -> Path:
    """Download a file to ``path``, unless it is already there.

    Each URL is tried `TRIES_EACH` times, resuming where the last try stopped. A file with the wrong checksum is deleted
    and the next URL is tried. An incomplete file is kept beside ``path`` for the next call. Several processes may
    request the same file at once; only one of them downloads it.

    Args:
        urls: mirrors, in the order to try.
        path: file to write.
        what: name of the file in messages, such as ``unet3d-ct@1.2.0/model.safetensors``.
        checksum: expected checksum, as ``sha256:<hexadecimal>`` or ``md5:<hexadecimal>``.
        size_bytes: expected size; by default the one that the server states.
        most_bytes: largest size to accept where none is expected.

    Raises:
        DownloadError: offline, or no URL gave the expected file.
    """
    wanted = _Wanted(path, what, checksum, size_bytes, most_bytes)
    if wanted.is_there():
        return path
    if paths.offline():
        msg = f"{what} is not in the cache and CPHLOC_OFFLINE forbids downloading; copy the file to {path}"
        raise DownloadError(msg)
    import filelock

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(f"{path}.lock"):
            if not wanted.is_there():
                _download_from_any(urls, wanted)
    except OSError as error:
        msg = f"{what} cannot be kept in {path.parent}: {error.strerror or error}; free some space or set CPHLOC_CACHE"
        raise DownloadError(msg) from error
    return path


def read_url(url: str, limit_bytes: int = MAX_SMALL_BYTES) -> bytes:
    """Read a small file without a checksum, such as an index.

    Args:
        url: URL of the file.
        limit_bytes: largest size to accept.

    Raises:
        NotFoundError: the file does not exist.
        DownloadError: offline, the URL cannot be read, the transfer was interrupted, or the file is too large.
    """
    if paths.offline():
        msg = f"{url} cannot be read because CPHLOC_OFFLINE forbids downloads; unset it to continue"
        raise DownloadError(msg)
    try:
        with opened(url, 0) as (stream, _):
            content = _up_to(stream, limit_bytes + 1)
            missing = getattr(stream, "length", None)  # http: bytes of Content-Length that are still missing
    except FileNotFoundError:
        msg = f"{url} does not exist"
        raise NotFoundError(msg) from None
    except SourceError as error:
        msg = f"{url} cannot be read: {error}"
        raise DownloadError(msg) from None
    if missing or len(content) > limit_bytes:
        msg = f"{url} is larger than {limit_bytes:,} bytes" if len(content) > limit_bytes else f"{url}: interrupted"
        raise DownloadError(msg)
    return content


@dataclass(frozen=True)
class _Wanted:
    """Arguments of `download`."""

    path: Path
    what: str
    checksum: str | None
    size_bytes: int | None
    most_bytes: int

    @property
    def part(self) -> Path:
        """Path of the incomplete file."""
        return Path(f"{self.path}.part")

    def is_there(self) -> bool:
        """Return True if the file exists with the expected size; its checksum was compared after the download."""
        return self.path.is_file() and self.size_bytes in (None, self.path.stat().st_size)


def _up_to(stream: Readable, count: int) -> bytes:
    content = bytearray()
    for piece in pieces(stream, PIECE_BYTES):
        content += piece
        if len(content) >= count:
            break
    return bytes(content[:count])


def _download_from_any(urls: Sequence[str], wanted: _Wanted) -> None:
    part = wanted.part
    failures = []
    for url in urls:
        for attempt in range(TRIES_EACH):
            resumed = part.exists()
            try:
                failure = _try(url, wanted)
            except (TooLargeError, TooSlowError) as error:
                failure = str(error)
                break
            if failure is None:
                os.replace(part, wanted.path)
                return
            if not resumed and not part.exists():
                break  # no data at all, or a complete but wrong file: another attempt would give the same
            time.sleep(attempt * BACKOFF_SECONDS)
        failures.append(f"{url}: {failure}")
    raise _error(wanted, failures)


def _error(wanted: _Wanted, failures: Sequence[str]) -> DownloadError:
    """Return the error for the failure of every URL: in one line for one URL."""
    kept = ["run the command again to continue"] if wanted.part.exists() else []
    first = f"{wanted.what} cannot be downloaded"
    if len(failures) == 1:
        msg = "; ".join([f"{first} from {failures[0]}", *kept])
    else:
        msg = "\n".join([f"{first}; tried", *(f"  {failure}" for failure in failures), *kept])
    error = DownloadError(msg)
    error.missing = all(failure.endswith(_MISSING) for failure in failures)
    return error


def _try(url: str, wanted: _Wanted) -> str | None:
    """Continue the incomplete file from ``url``; returns ``None`` if it is now complete and correct, else the reason.

    A file with wrong content is removed, so that the remaining incomplete file can always be resumed.

    Raises:
        TooLargeError, TooSlowError: another attempt is useless.
    """
    part, size_bytes = wanted.part, wanted.size_bytes
    have = part.stat().st_size if part.exists() else 0
    if size_bytes is not None:
        _check_space(part.parent, size_bytes - have)
    try:
        if not have or size_bytes is None or have < size_bytes:
            size_bytes = _append(url, part, wanted)
    except FileNotFoundError:
        return _MISSING
    except RangeError as error:
        part.unlink()
        return str(error)
    except TooSlowError:
        raise
    except TooLargeError:
        part.unlink()
        raise
    except SourceError as error:
        return str(error)
    return _failure(part, wanted.checksum, size_bytes)


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        msg = f"{needed:,} bytes are needed and {free:,} are free"
        raise OSError(msg)


def _failure(part: Path, checksum: str | None, size_bytes: int | None) -> str | None:
    size = part.stat().st_size
    if size_bytes is not None and size < size_bytes:
        return f"interrupted after {size:,} of {size_bytes:,} bytes"
    difference = _difference(part, checksum)
    if size_bytes is not None and size > size_bytes:
        difference = f"more than {size_bytes:,} bytes"
    if difference is None:
        return None
    part.unlink()
    return f"wrong content: {difference}"


def _difference(part: Path, checksum: str | None) -> str | None:
    if checksum is None:
        return None
    algorithm, _, expected = checksum.partition(":")
    with part.open("rb") as stream:
        actual = hashlib.file_digest(stream, algorithm).hexdigest()
    return None if actual == expected else f"{algorithm} {actual[:12]}... instead of {expected[:12]}..."


def _append(url: str, part: Path, wanted: _Wanted) -> int | None:
    """Append the remaining bytes of ``url`` to ``part``; returns the size of the complete file if it is known."""
    have = part.stat().st_size if part.exists() else 0
    with opened(url, have) as (stream, start), part.open("r+b" if have else "wb") as file:
        length = getattr(stream, "length", None)  # http: Content-Length
        size_bytes = start + length if wanted.size_bytes is None and length is not None else wanted.size_bytes
        _check_size(size_bytes, wanted)
        file.seek(start)
        file.truncate()
        with progress(f"downloading {wanted.what}", size_bytes, start, "bytes") as advance:
            for piece in pieces(stream, PIECE_BYTES):
                file.write(piece)
                start += len(piece)
                advance(len(piece))
                if size_bytes is not None and start > size_bytes:
                    break
                _check_size(start, wanted)
        file.flush()
        os.fsync(file.fileno())
    return size_bytes


def _check_size(size_bytes: int | None, wanted: _Wanted) -> None:
    """Raise `TooLargeError` where a file without an expected size is larger than it may be."""
    if wanted.size_bytes is None and (size_bytes or 0) > wanted.most_bytes:
        msg = f"is larger than {wanted.most_bytes:,} bytes"
        raise TooLargeError(msg)
