"""What a hostile or broken server can do to a download: end it."""

from __future__ import annotations

import base64
import threading
import time

import pytest
from file_server import Handler, drip, drip_body, serving

from cphloc.download import DownloadError, download, limits, read_url, transfer, unreachable
from cphloc.errors import NotFoundError

CHECKSUM = "sha256:" + "0" * 64


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.delenv("CPHLOC_OFFLINE", raising=False)
    monkeypatch.setattr(transfer, "TIMEOUT_SECONDS", 1.0)
    monkeypatch.setattr(limits, "GRACE_SECONDS", 1.0)


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
    def missing(handler: Handler) -> None:
        handler.send_error(404)

    def ok(handler: Handler) -> None:
        handler.send_response(200)
        handler.end_headers()

    for answer in (missing, ok):
        with serving(answer) as address:
            assert unreachable(f"http://{address}/x") == ""
    started = time.monotonic()
    with serving(silent) as address:
        assert "127.0.0.1 did not answer within 0.5 s" in unreachable(f"http://{address}/x", 0.5)
    assert "127.0.0.1 cannot be reached" in unreachable("https://127.0.0.1:9/x")
    assert time.monotonic() - started < 5


def test_a_server_that_begins_quickly_and_then_drips_is_given_up(tmp_path):
    """The mean speed would stay above any limit for days."""

    def quick_then_drip(handler: Handler) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(bytes(20_000_000))
        drip_body(handler)

    with serving(quick_then_drip) as address:
        started = time.monotonic()
        with pytest.raises(DownloadError, match="too slow; run the command again to continue") as caught:
            download([f"http://{address}/x"], tmp_path / "x", "x")
    assert time.monotonic() - started < 10
    assert "\n" not in str(caught.value)


def test_a_file_without_a_stated_size_ends_at_the_limit(tmp_path):
    def endless(handler: Handler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(bytes(1 << 20))

    def announces(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(10**15))
        handler.end_headers()
        handler.wfile.write(bytes(1 << 20))

    for answer in (endless, announces):
        with serving(answer) as address, pytest.raises(DownloadError, match="is larger than 5,000,000 bytes"):
            download([f"http://{address}/x"], tmp_path / "x", "x", most_bytes=5_000_000)
        assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(".lock")] == []


def test_another_library_that_waits_is_given_up(tmp_path, monkeypatch):
    """A file system of fsspec that returns no byte, and one that does not open."""
    import fsspec
    from fsspec.implementations.memory import MemoryFile, MemoryFileSystem

    monkeypatch.setattr(transfer, "BLOCK_SECONDS", 0.3)
    ended = threading.Event()

    class Stalls(MemoryFileSystem):
        protocol = "stalls"

        def _open(self, path, *args, **options):
            if "closed" in path:
                ended.wait(20)
            return Stalled(self, path)

    class Stalled(MemoryFile):
        def read(self, *args):
            ended.wait(20)
            return b""

    fsspec.register_implementation("stalls", Stalls, clobber=True)
    for name in ("open", "closed"):
        started = time.monotonic()
        with pytest.raises(DownloadError, match=r"did not answer within 0\.3 s"):
            download([f"stalls://bucket/{name}"], tmp_path / name, "x")
        with pytest.raises(DownloadError, match=r"did not answer within 0\.3 s"):
            read_url(f"stalls://bucket/{name}")
        assert time.monotonic() - started < 5
    ended.set()


PROGRAMS = {
    "drips": ("while True: time.sleep(0.05); file.write(b'x'); file.flush()", "only .* too slow"),
    "says nothing": ("time.sleep(60)", "only 0 bytes"),
    "fails": ("sys.exit('no such\\nthing')", "^thing$"),
    "never ends": ("while True: file.write(bytes(1 << 20))", "larger than 50,000,000 bytes"),
}


@pytest.mark.parametrize(("code", "message"), PROGRAMS.values(), ids=PROGRAMS)
def test_a_program_that_downloads_is_ended(tmp_path, monkeypatch, code, message):
    monkeypatch.setattr(limits, "PROCESS_SECONDS", 1.5)
    monkeypatch.setattr(limits, "MOST_BYTES", 50_000_000)
    started = time.monotonic()
    with pytest.raises(limits.SourceError, match=message):
        limits.in_process(f"import time\nfile = open(given + '/x', 'wb')\n{code}", str(tmp_path), tmp_path)
    assert time.monotonic() - started < 20
    limits.in_process("open(given + '/x', 'w').write('done')", str(tmp_path), tmp_path)
    assert (tmp_path / "x").read_text() == "done"
