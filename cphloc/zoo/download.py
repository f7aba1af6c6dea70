"""Downloads that end with the right file or with none: resumed, mirrored, checked by sha256, put in place at once.

Every downloaded file is kept in the cache under its sha256, so a file there is never stale and two versions share what
they have in common. ``http(s)`` is read directly; ``s3``, ``hf`` and the other protocols go through fsspec.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import shutil
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from cphloc import paths
from cphloc.errors import CphlocError, NotFoundError
from cphloc.zoo.entry import File

TRIES_EACH = 3
TIMEOUT_SECONDS = 20.0
BACKOFF_SECONDS = 0.5
PIECE_BYTES = 1 << 20
PROGRESS_FROM_BYTES = 1 << 20


class DownloadError(CphlocError):
    """No source gave the file; the message says what each of them did."""


class _SourceError(Exception):
    """A source failed; what to say about it."""


def download(urls: Sequence[str], expected: File, what: str) -> Path:
    """Path of the file in the cache, downloaded first where it is not there yet.

    Each URL is tried `TRIES_EACH` times, resuming where the last try broke off; what does not have the expected sha256
    is thrown away and the next URL is tried. Any number of processes may ask for one file at once: one downloads.

    Args:
        urls: mirrors, in order.
        expected: size and sha256.
        what: the file's name in messages, ``unet3d-ct@1.2.0/model.safetensors``.

    Raises:
        DownloadError: offline, or no URL gave the expected file.
    """
    path = paths.cache() / "zoo" / "files" / expected.sha256
    if _complete(path, expected):
        return path
    if paths.offline():
        msg = f"{what} is not in the cache and CPHLOC_OFFLINE forbids downloading; copy the file to {path}"
        raise DownloadError(msg)
    import filelock

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(path.with_suffix(".lock")):
            if not _complete(path, expected):
                _download_from_any(urls, expected, what, path)
    except OSError as error:
        msg = f"{what} cannot be kept in {path.parent}: {error.strerror or error}; free some space or set CPHLOC_CACHE"
        raise DownloadError(msg) from error
    return path


def read_url(url: str, limit_bytes: int = 100_000_000) -> bytes:
    """Content of a small file that no hash pins, such as an index.

    Raises:
        NotFoundError: the server says that there is none.
        DownloadError: offline, unreachable, broken off, or larger than ``limit_bytes``.
    """
    if paths.offline():
        msg = f"{url} cannot be read: CPHLOC_OFFLINE forbids it"
        raise DownloadError(msg)
    try:
        with _opened(url, 0) as (stream, _):
            content = _read(stream, limit_bytes + 1)
            missing = getattr(stream, "length", None)  # http: bytes that were promised and did not come
    except FileNotFoundError:
        msg = f"{url} does not exist"
        raise NotFoundError(msg) from None
    except _SourceError as error:
        msg = f"{url} cannot be read: {error}"
        raise DownloadError(msg) from None
    if missing or len(content) > limit_bytes:
        msg = f"{url} is larger than {limit_bytes:,} bytes" if len(content) > limit_bytes else f"{url} broke off"
        raise DownloadError(msg)
    return content


def _complete(path: Path, expected: File) -> bool:
    """Whether the cache holds the file. Its hash was checked when it was put there, and is again at every load."""
    return path.is_file() and path.stat().st_size == expected.bytes


def _download_from_any(urls: Sequence[str], expected: File, what: str, path: Path) -> None:
    part = path.with_suffix(".part")
    failures = []
    for url in urls:
        for attempt in range(TRIES_EACH):
            resumed = part.exists()
            failure = _try(url, expected, what, part)
            if failure is None:
                os.replace(part, path)
                return
            if not resumed and not part.exists():
                break  # nothing came, or all of a wrong file: asking again gives the same
            time.sleep(attempt * BACKOFF_SECONDS)
        failures.append(f"  {url}: {failure}")
    msg = "\n".join([f"{what} cannot be downloaded; tried", *failures])
    raise DownloadError(msg)


def _try(url: str, expected: File, what: str, part: Path) -> str | None:
    """Continue ``part`` from ``url``; ``None`` when it is whole and right, else what went wrong.

    A part that turned out wrong is removed, so that what is left may always be resumed.
    """
    have = part.stat().st_size if part.exists() else 0
    free = shutil.disk_usage(part.parent).free
    if expected.bytes - have > free:
        msg = f"{expected.bytes - have:,} bytes are needed and {free:,} are free"
        raise OSError(msg)
    try:
        if have < expected.bytes or not have:
            _append(url, expected, what, part)
    except FileNotFoundError:
        return "does not exist"
    except _SourceError as error:
        return str(error)
    return _verdict(part, expected)


def _verdict(part: Path, expected: File) -> str | None:
    size = part.stat().st_size
    if size < expected.bytes:
        return f"broke off after {size:,} of {expected.bytes:,} bytes"
    with part.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found == expected.sha256 and size == expected.bytes:
        return None
    part.unlink()
    return f"gave another file: sha256 {found[:12]}... where {expected.sha256[:12]}... is expected"


def _append(url: str, expected: File, what: str, part: Path) -> None:
    have = part.stat().st_size if part.exists() else 0
    with _opened(url, have) as (stream, start), part.open("r+b" if have else "wb") as file:
        file.seek(start)
        file.truncate()
        with _progress(what, expected.bytes, start) as advance:
            while start <= expected.bytes and (piece := _read(stream, PIECE_BYTES)):
                file.write(piece)
                start += len(piece)
                advance(len(piece))
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def _opened(url: str, offset: int) -> Iterator[tuple[BinaryIO, int]]:
    """A stream of ``url``, and the byte it starts at: ``offset``, or 0 from a server that cannot resume."""
    if url.startswith(("http://", "https://")):
        headers = {"User-Agent": "cphloc", "Accept-Encoding": "identity"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
        request = urllib.request.Request(url, headers=headers)
        with _http(request) as response:
            resumed = response.status == 206 and response.headers.get("Content-Range", "").startswith(
                f"bytes {offset}-"
            )
            yield response, offset if resumed else 0
    else:
        with _filesystem_open(url) as stream:
            stream.seek(offset)
            yield stream, offset


def _http(request: urllib.request.Request) -> BinaryIO:
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in (404, 410):
            raise FileNotFoundError(request.full_url) from None
        msg = f"the server answered {error.code} {error.reason}"
        raise _SourceError(msg) from None
    except (OSError, http.client.HTTPException) as error:
        raise _SourceError(str(getattr(error, "reason", error))) from None


def _filesystem_open(url: str) -> BinaryIO:
    import fsspec

    try:
        return fsspec.open(url, "rb").open()
    except FileNotFoundError:
        raise
    except Exception as error:  # every protocol has errors of its own, and a missing package is one
        raise _SourceError(str(error)) from error


def _read(stream: BinaryIO, count: int) -> bytes:
    """Read from a source; its failures must not be taken for those of the disk that is written to."""
    try:
        return stream.read(count)
    except Exception as error:  # every protocol has errors of its own
        msg = f"broke off: {error}"
        raise _SourceError(msg) from error


@contextlib.contextmanager
def _progress(what: str, total: int, done: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr for downloads that take a while, where someone is watching."""
    if total < PROGRESS_FROM_BYTES or not sys.stderr.isatty():
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = ("{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=total, completed=done)
        yield lambda count: bar.advance(task, count)
