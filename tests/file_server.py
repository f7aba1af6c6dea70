"""A file server that misbehaves as servers do."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Server:
    """A file server that can be told to misbehave.

    ``truncate`` sends half of what it announces; ``stall`` stops sending half-way and keeps the connection open;
    ``corrupt`` flips a byte; ``deny`` answers 500; ``ranges`` false ignores the wish to resume. ``times`` is how many
    answers misbehave before it behaves; ``only`` is the ending of the paths it applies to.
    """

    root: Path
    url: str = ""
    fault: str = ""
    times: int = 10**6
    only: str = ""
    ranges: bool = True
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    def misbehaves(self, path: str) -> str:
        if not self.fault or not path.endswith(self.only) or self.times <= 0:
            return ""
        self.times -= 1
        return self.fault


Handler = http.server.BaseHTTPRequestHandler


@contextlib.contextmanager
def serving(answer: Callable[[Handler], None]) -> Iterator[str]:
    """A server that answers every request in the same way; yields its address, ``host:port``."""

    class Answer(Handler):
        def do_GET(self) -> None:
            with contextlib.suppress(OSError):
                answer(self)

        do_HEAD = do_GET

        def log_message(self, *args: Any) -> None:
            """Keep the output clean."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def send_json(handler: Handler, answer: object) -> None:
    """Answer with JSON."""
    content = json.dumps(answer).encode()
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)


def drip(handler: Handler) -> None:
    """Announce a megabyte, and send a byte every tenth of a second."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    if handler.command == "GET":
        drip_body(handler)


def drip_body(handler: Handler) -> None:
    """Send a byte every tenth of a second."""
    while True:
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.1)


@contextlib.contextmanager
def served(root: Path) -> Iterator[Server]:
    """A running server of the files in ``root``."""
    state = Server(root)
    stop = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wished = self.headers.get("Range")
            state.asked.append((self.path, wished))
            fault = state.misbehaves(self.path)
            file = state.root / self.path.lstrip("/")
            if fault == "deny" or not file.is_file():
                self.send_error(500 if fault == "deny" else 404)
                return
            content = bytearray(file.read_bytes())
            if fault == "corrupt":
                content[len(content) // 2] ^= 1
            start = int(wished.removeprefix("bytes=").rstrip("-")) if wished and state.ranges else 0
            if start and start >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            body = content[start:]
            self.wfile.write(body[: len(body) // 2] if fault in ("truncate", "stall") else body)
            self.wfile.flush()
            if fault == "stall":
                stop.wait(5)

        def log_message(self, *args: Any) -> None:
            """Keep the tests' output clean."""

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{httpd.server_address[1]}"
    yield state
    stop.set()
    httpd.shutdown()
    httpd.server_close()
