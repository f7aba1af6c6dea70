"""Open URLs and read from them, with limits on time, redirections and protocols.

``http`` and ``https`` are read with the standard library, other protocols such as ``s3`` and ``hf`` with fsspec.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import socket
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from typing import IO, Any, Protocol

TIMEOUT_SECONDS = 20.0
"""Seconds to wait for the server: to connect, for its headers, and for each next part of the content."""

GRACE_SECONDS = 12.0
"""Seconds after which a transfer must be faster than `LEAST_BYTES_PER_SECOND`."""

LEAST_BYTES_PER_SECOND = 2_000
"""Mean speed below which a transfer is given up, which bounds the time of a download by its size."""

_LOCAL = ("file", "local", "dir", "reference")


class SourceError(Exception):
    """Failed attempt to read a URL; the message contains the reason."""


class RangeError(SourceError):
    """The partial file is longer than the file at the URL, so it is not the beginning of it."""


class TooSlowError(SourceError):
    """The server sends so slowly that another attempt is useless."""


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
    started, received = time.monotonic(), 0
    read: Callable[[int], bytes] = getattr(stream, "read1", stream.read)  # returns what has arrived
    while True:
        try:
            piece = read(count)
        except Exception as error:  # each protocol raises errors of its own
            msg = f"interrupted: {error}"
            raise SourceError(msg) from error
        if not piece:
            return
        received += len(piece)
        seconds = time.monotonic() - started
        if seconds > GRACE_SECONDS and received < seconds * LEAST_BYTES_PER_SECOND:
            msg = f"only {received:,} bytes came in {seconds:.0f} s, which is too slow"
            raise TooSlowError(msg)
        yield piece


def unreachable(url: str, seconds: float = 6.0) -> str:
    """Return why the host of a URL, or the proxy for it, cannot be connected to; an empty text where it can.

    Args:
        url: an ``http`` or ``https`` URL.
        seconds: time to wait, the look-up of the name included.
    """
    parts = urllib.parse.urlsplit(url)
    host, port = parts.hostname or "", parts.port or (80 if parts.scheme == "http" else 443)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy and not urllib.request.proxy_bypass(host):
        through = urllib.parse.urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        host, port = through.hostname or "", through.port or 80
    failure = [f"{host} did not answer within {seconds:g} s"]

    def connect() -> None:
        """Try to connect; a look-up of a name has no time limit of its own, so this runs in a thread."""
        try:
            socket.create_connection((host, port), timeout=seconds).close()
            failure[0] = ""
        except OSError as error:
            failure[0] = f"{host} cannot be reached ({error.strerror or error})"

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(seconds)
    return failure[0]


def _request(url: str, offset: int) -> urllib.request.Request:
    """Build a request; a user name and password in the URL are sent to its host only, in a header."""
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
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _http(request: urllib.request.Request) -> http.client.HTTPResponse:
    opener = urllib.request.build_opener(_Http, _Https, _SafeRedirect)
    try:
        return opener.open(request, timeout=TIMEOUT_SECONDS)
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

    try:
        file: Any = fsspec.open(url, "rb")
        return file.open()
    except FileNotFoundError:
        raise
    except Exception as error:  # each protocol raises errors of its own, also for a missing package
        raise SourceError(str(error)) from error
