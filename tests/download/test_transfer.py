"""What a hostile or broken server can do to a download: end it."""

from __future__ import annotations

import base64
import contextlib
import http.server
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cphloc.download import DownloadError, download, read_url, transfer, unreachable
from cphloc.errors import NotFoundError

Handler = http.server.BaseHTTPRequestHandler
CHECKSUM = "sha256:" + "0" * 64


@contextlib.contextmanager
def serving(answer: Callable[[Handler], None]) -> Iterator[str]:
    """A server that answers every request in the same way; yields its address, ``host:port``."""

    class Answer(Handler):
        def do_GET(self) -> None:
            with contextlib.suppress(OSError):
                answer(self)

        def log_message(self, *args: Any) -> None:
            """Keep the output clean."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.delenv("CPHLOC_OFFLINE", raising=False)
    monkeypatch.setattr(transfer, "TIMEOUT_SECONDS", 1.0)
    monkeypatch.setattr(transfer, "GRACE_SECONDS", 1.0)


def drip(handler: Handler) -> None:
    """Send a byte every tenth of a second."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    while True:
        handler.wfile.write(b"x")
        handler.wfile.flush()
        time.sleep(0.1)


def drip_headers(handler: Handler) -> None:
    """Never end the headers."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        handler.wfile.write(b"X")
        handler.wfile.flush()
        time.sleep(0.1)


def silent(handler: Handler) -> None:
    """Accept and say nothing."""
    time.sleep(6)


@pytest.mark.parametrize("fault", [drip, drip_headers, silent])
def test_a_server_that_never_ends_is_given_up(tmp_path, fault):
    with serving(fault) as address:
        for read in (
            lambda: download([f"http://{address}/x"], tmp_path / "x", "x", CHECKSUM, 10**6),
            lambda: read_url(f"http://{address}/x"),
        ):
            started = time.monotonic()
            with pytest.raises(DownloadError):
                read()
            assert time.monotonic() - started < 5


def test_an_endless_answer_is_cut_off():
    def endless(handler: Handler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(bytes(1 << 20))

    with serving(endless) as address, pytest.raises(DownloadError, match="larger than 5,000,000 bytes"):
        read_url(f"http://{address}/zoo.json", 5_000_000)


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://x"])
def test_a_redirection_leads_to_http_only(target):
    def redirect(handler: Handler) -> None:
        handler.send_response(302)
        handler.send_header("Location", target)
        handler.end_headers()

    with serving(redirect) as address, pytest.raises(DownloadError, match=r"cannot be read"):
        read_url(f"http://{address}/x")


def test_a_redirection_from_https_never_leads_to_http():
    request = transfer._request("https://host/x", 0)
    with pytest.raises(transfer.SourceError, match="from https to http"):
        transfer._SafeRedirect().redirect_request(request, None, 302, "", {}, "http://host/x")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "local:///etc/passwd", "s3://bucket/x::file:///etc/passwd"])
def test_no_file_of_this_machine_is_downloaded(tmp_path, url):
    with pytest.raises(DownloadError, match="a file of this machine"):
        download([url], tmp_path / "x", "x")
    with pytest.raises(DownloadError, match="a file of this machine"):
        read_url(url)


def test_a_password_in_an_address_goes_to_its_host_only_and_into_no_message():
    asked = []

    def redirect(handler: Handler) -> None:
        asked.append(handler.headers.get("Authorization"))
        if handler.path == "/x":
            handler.send_response(302)
            handler.send_header("Location", f"http://localhost:{handler.server.server_address[1]}/y")
        else:
            handler.send_response(404)
        handler.end_headers()

    with serving(redirect) as address, pytest.raises(NotFoundError) as caught:
        read_url(f"http://bob:Hunter%32pw@{address}/x")
    assert asked == ["Basic " + base64.b64encode(b"bob:Hunter2pw").decode(), None]
    assert "Hunter" not in str(caught.value)
    for url in ("http://bob:Hunter2pw@127.0.0.1:9/zoo", "http://bob:Hunter2pw@[/zoo"):
        with pytest.raises(DownloadError) as caught:
            read_url(url)
        assert "Hunter2pw" not in str(caught.value)


def test_a_host_that_cannot_be_reached_is_named_in_time():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        assert unreachable(f"http://127.0.0.1:{listener.getsockname()[1]}/x") == ""
    started = time.monotonic()
    assert "127.0.0.1 cannot be reached" in unreachable("https://127.0.0.1:9/x")
    assert time.monotonic() - started < 5
