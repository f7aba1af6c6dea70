"""Limits on the time of a transfer, also by other libraries, which wait for a slow server for as long as it takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

Result = TypeVar("Result")

GRACE_SECONDS = 12.0
"""Seconds over which the speed of a transfer is measured."""

LEAST_BYTES_PER_SECOND = 2_000
"""Speed below which a transfer is given up, which bounds the time of a download by its size."""

PROCESS_SECONDS = 60.0
"""Seconds over which the speed of other libraries is measured, which import first and write in blocks."""

MOST_BYTES = 10_000_000_000
"""Size at which a download without a stated size is given up."""

_POLL_SECONDS = 0.2


class SourceError(Exception):
    """Failed attempt to read a URL; the message contains the reason."""


class TooSlowError(SourceError):
    """The server sends so slowly that another attempt is useless."""


class TooLargeError(SourceError):
    """More bytes came, or were announced, than the file may have."""


class Pace:
    """Speed of a transfer, which must not fall below `LEAST_BYTES_PER_SECOND`.

    Args:
        seconds: time over which it is measured; by default `GRACE_SECONDS`.
    """

    def __init__(self, seconds: float | None = None) -> None:
        self._started, self._received = time.monotonic(), 0
        self._seconds = GRACE_SECONDS if seconds is None else seconds

    def add(self, count: int) -> None:
        """Count bytes that have arrived.

        Raises:
            TooSlowError: too few have arrived lately.
        """
        self._received += count
        seconds = time.monotonic() - self._started
        if seconds < self._seconds:
            return
        if self._received < seconds * LEAST_BYTES_PER_SECOND:
            msg = f"only {self._received:,} bytes came in {seconds:.0f} s, which is too slow"
            raise TooSlowError(msg)
        self._started, self._received = time.monotonic(), 0


def within(seconds: float, call: Callable[[], Result]) -> Result:
    """Return the result of a function, or give it up when it takes too long.

    It runs in a thread, which is then left to itself; no program waits for it at its end.

    Args:
        seconds: longest time to wait.
        call: function without arguments.

    Raises:
        TooSlowError: it took longer.
        Exception: whatever the function raises.
    """
    results: list[Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        """Keep the result or the error."""
        try:
            results.append(call())
        except BaseException as error:  # raised below
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        msg = f"the server did not answer within {seconds:g} s"
        raise TooSlowError(msg)
    return results[0]


def in_process(program: str, given: Any, folder: Path) -> None:
    """Run a program that downloads to a folder, in a process that is ended when the folder grows too slowly.

    A process can be ended with all its threads and connections, which no library offers.

    Args:
        program: Python code, with the data in its variable ``given``.
        given: data for JSON; it is sent through a pipe, since everybody may list the arguments of processes.
        folder: folder that the program writes to.

    Raises:
        TooSlowError: the folder grows more slowly than `LEAST_BYTES_PER_SECOND`.
        SourceError: the program failed; the message is the last line of its output.
        TooLargeError: more than `MOST_BYTES` came.
    """
    code = f"import json, sys\ngiven = json.load(sys.stdin)\n{program}"
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=output, stderr=output)
        try:
            if process.stdin is not None:
                process.stdin.write(json.dumps(given).encode())
                process.stdin.close()
            _wait(process, folder)
        finally:
            process.kill()
            process.wait()
        if process.returncode:
            output.seek(0)
            lines = output.read().decode(errors="replace").strip().splitlines()
            raise SourceError(lines[-1] if lines else f"the download ended with {process.returncode}")


def _wait(process: subprocess.Popen[bytes], folder: Path) -> None:
    """Wait for the process to end; raise an error where its folder grows too slowly, or beyond all limits."""
    pace, before = Pace(PROCESS_SECONDS), _size(folder)
    while process.poll() is None:
        time.sleep(_POLL_SECONDS)
        now = _size(folder)
        if now > MOST_BYTES:
            msg = f"is larger than {MOST_BYTES:,} bytes"
            raise TooLargeError(msg)
        pace.add(now - before)
        before = now


def _size(folder: Path) -> int:
    """Return the size of all files in a folder, which may change meanwhile."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_size
            except OSError:  # renamed meanwhile
                continue
    return total
