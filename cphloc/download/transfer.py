"""Open URLs and read from them, with limits on time, redirections and protocols.

``http`` and ``https`` are read with the standard library, other protocols such as ``s3`` and ``hf`` with fsspec.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import socket
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from typing import IO, Any, Protocol

from cphloc.download.hub import hub_token
from cphloc.download.limits import Pace, SourceError, TooSlowError, within

TIMEOUT_SECONDS = 20.0
"""Seconds to wait for the server: to connect, for its headers, and for each next part of the content."""

BLOCK_SECONDS = 60.0
"""Seconds to wait for each `BLOCK_BYTES` from other libraries, which return no part of a block."""

BLOCK_BYTES = 1 << 20

_LOCAL = ("file", "local", "dir", "reference")


class RangeError(SourceError):
    """The partial file is longer than the file at the URL, so it is not the beginning of it."""


class Readable(Protocol):
    """A binary stream."""

    def read(self, count: int, /) -> bytes:
        """Read up to ``count`` bytes."""
        ...


@contextlib.contextmanager
def opened(url: str, offset: int) -> Iterator[tuple[Readable, int]]:
    """Open ``url``; yield the stream and its first byte: ``offset``, or 0 if the server cannot resume.

    Raises:
        FileNotFoundError: there is no such file.
        SourceError: the URL cannot be opened.
    """
    if not url.startswith(("http://", "https://")):
        with _filesystem_open(url) as stream:
            stream.seek(offset)
            yield stream, offset
        return
    with _http(_request(url, offset)) as response:
        resumed = response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {offset}-")
        yield response, offset if resumed else 0


def pieces(stream: Readable, count: int) -> Iterator[bytes]:
    """Read a stream to its end, at most ``count`` bytes at once.

    Raises:
        SourceError: the transfer is interrupted.
        TooSlowError: it is slower than `LEAST_BYTES_PER_SECOND`.
    """
    pace = Pace()
    read: Callable[[int], bytes] = getattr(stream, "read1", stream.read)  # returns what has arrived
    while True:
        try:
            piece = read(count)
        except TooSlowError:
            raise
        except Exception as error:  # each protocol raises errors of its own
            msg = f"interrupted: {error}"
            raise SourceError(msg) from error
        if not piece:
            return
        pace.add(len(piece))
        yield piece


def unreachable(url: str, seconds: float = 8.0) -> str:
    """Return why the server of a URL, or the proxy for it, does not answer; an empty text where it does.

    Args:
        url: an ``http`` or ``https`` URL; whether there is such a file does not matter.
        seconds: time to wait, the look-up of the name included.
    """
    host = urllib.parse.urlsplit(url).hostname or ""

    def ask() -> str:
        """Ask for the headers of the file."""
        request = _request(url, 0)
        request.method = "HEAD"
        try:
            _open(request).close()
        except urllib.error.HTTPError as error:
            error.close()
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            return f"{host} cannot be reached ({getattr(reason, 'strerror', None) or reason})"
        return ""

    try:
        return within(seconds, ask)
    except TooSlowError:
        return f"{host} did not answer within {seconds:g} s"
    except SourceError as error:
        return str(error)


def _request(url: str, offset: int) -> urllib.request.Request:
    """Build a request; what the URL states as user name and password, or the Hub's token, is sent to its host only."""
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError as error:
        raise SourceError(str(error)) from None
    user, at, host = parts.netloc.rpartition("@")
    headers = {"User-Agent": "cphloc", "Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
    try:
        request = urllib.request.Request(parts._replace(netloc=host).geturl(), headers=headers)
    except ValueError as error:
        raise SourceError(str(error)) from None
    if at:
        credentials = base64.b64encode(urllib.parse.unquote(user).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {credentials}")
    elif token := hub_token(request.full_url):
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    return request


class _Bounded(http.client.HTTPConnection):
    """A connection that is closed if connecting or the headers take longer than the timeout altogether."""

    def connect(self) -> None:
        """Connect within the timeout."""
        with self._limit():
            super().connect()

    def getresponse(self) -> http.client.HTTPResponse:
        """Read the headers of the response within the timeout."""
        with self._limit():
            return super().getresponse()

    @contextlib.contextmanager
    def _limit(self) -> Iterator[None]:
        late = threading.Event()

        def abort() -> None:
            """End the wait for the socket, which the headers would otherwise prolong byte by byte."""
            late.set()
            with contextlib.suppress(OSError, AttributeError):
                self.sock.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(TIMEOUT_SECONDS, abort)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
        if late.is_set():
            msg = "the server took too long to answer"
            raise TimeoutError(msg)


class _BoundedTls(_Bounded, http.client.HTTPSConnection):
    """The same over TLS."""


class _Http(urllib.request.HTTPHandler):
    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        """Open an ``http`` URL."""
        return self.do_open(_Bounded, request)


class _Https(urllib.request.HTTPSHandler):
    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        """Open an ``https`` URL."""
        return self.do_open(_BoundedTls, request)


class _SafeRedirect(urllib.request.HTTPRedirectHandler):
    """Follows redirections to ``https``, and to ``http`` only from ``http``; urllib would follow to ``ftp`` too."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        """Build the request to the new URL, or raise an error."""
        allowed = ("https", "http") if req.type == "http" else ("https",)
        scheme = urllib.parse.urlsplit(newurl).scheme.lower()
        if scheme not in allowed:
            reason = f"it leads from {req.type} to {scheme}, which is not followed"
            raise SourceError(reason)
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        known = req.get_header("Authorization")
        if request is not None and known and (request.type, request.host) == (req.type, req.host):
            request.add_unredirected_header("Authorization", known)
        return request


def _open(request: urllib.request.Request) -> http.client.HTTPResponse:
    """Send a request, and return the response once its headers are there."""
    opener = urllib.request.build_opener(_Http, _Https, _SafeRedirect)
    return opener.open(request, timeout=TIMEOUT_SECONDS)


def _http(request: urllib.request.Request) -> http.client.HTTPResponse:
    try:
        return _open(request)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in (404, 410):
            raise FileNotFoundError(request.full_url) from None
        failure = RangeError if error.code == 416 else SourceError
        msg = f"the server answered {error.code} {error.reason[:100]}"
        raise failure(msg) from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise SourceError(str(getattr(error, "reason", error))) from None


def _filesystem_open(url: str) -> Any:
    """Open a URL with fsspec, but no file of this machine, also not through a chain of protocols."""
    protocol = url.partition("://")[0].lower()
    if protocol in _LOCAL or "::" in url:
        msg = "it leads to a file of this machine"
        raise SourceError(msg)
    import fsspec

    def open_file() -> Any:
        """Open it without reading ahead."""
        system, path = fsspec.url_to_fs(url)
        return system.open(path, "rb", block_size=BLOCK_BYTES, cache_type="none")

    try:
        return _Blocks(within(BLOCK_SECONDS, open_file))
    except (FileNotFoundError, TooSlowError):
        raise
    except Exception as error:  # each protocol raises errors of its own, also for a missing package
        raise SourceError(str(error)) from error


class _Blocks:
    """A file of fsspec that is read in blocks, each within `BLOCK_SECONDS`."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def __enter__(self) -> _Blocks:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def seek(self, offset: int) -> None:
        """Continue at this byte."""
        self._file.seek(offset)

    def read(self, count: int, /) -> bytes:
        """Read the next block, of at most ``count`` bytes."""
        return within(BLOCK_SECONDS, lambda: self._file.read(min(count, BLOCK_BYTES)))
