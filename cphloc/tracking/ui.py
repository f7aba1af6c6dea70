"""Start and stop the MLflow user interface."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

from cphloc.errors import CphlocError, InputError, without_secrets
from cphloc.tracking.server import ENVIRONMENT, client_of, reaching, tracking_uri
from cphloc.tracking.zoo_experiment import VIEW, zoo_experiment

_START_SECONDS = 180.0
_LAST_LINES = 5


@dataclass(frozen=True)
class Server:
    """The process of the user interface, and what it printed."""

    process: subprocess.Popen[bytes]
    output: IO[bytes]

    def wait(self) -> None:
        """Wait until it ends.

        Raises:
            CphlocError: it failed.
        """
        if self.process.wait() > 0:
            raise CphlocError(self.failure())

    def failure(self) -> str:
        """Return the last lines that it printed, as a message."""
        self.output.seek(0)
        lines = self.output.read().decode(errors="replace").strip().splitlines()[-_LAST_LINES:]
        return "\n".join([f"the MLflow user interface ended with code {self.process.returncode}:", *lines])


def start_ui(port: int = 5000, prepare: Callable[[], None] = lambda: None) -> tuple[Server | None, str]:
    """Start the MLflow UI for the database at `tracking_uri`; if that is an MLflow server, start nothing.

    Args:
        port: port of the UI on this machine.
        prepare: called while the UI starts, for example to register entries.

    Returns:
        the server, which answers and is to be ended by `stop_ui` (``None`` if nothing was started), and the URL of the
        runs of published entries.

    Raises:
        InputError: another program uses the port.
        CphlocError: the server or database cannot be opened.
    """
    uri = tracking_uri()
    is_server = uri.startswith(("http://", "https://"))
    if not is_server:
        _check_free(port)
    with reaching(uri, "see MLFLOW_TRACKING_URI"):
        experiment = zoo_experiment(client_of(uri), uri)
    page = f"#/experiments/{experiment}/runs?workflowType=machine_learning&viewStateShareKey={VIEW}"
    if is_server:
        prepare()
        return None, f"{without_secrets(uri).rstrip('/')}/{page}"
    address = f"http://127.0.0.1:{port}"
    server = _start(uri, port)
    try:
        prepare()
        _wait_for(f"{address}/health", server)
    except BaseException:
        stop_ui(server)
        raise
    return server, f"{address}/{page}"


def stop_ui(server: Server) -> None:
    """Stop the UI and the processes that it started."""
    process = server.process
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
    else:  # Windows has no process groups; taskkill ends the children as well
        subprocess.run(["taskkill", "/F", "/T", "/PID", str(process.pid)], check=False, capture_output=True)
    process.wait()
    server.output.close()


def _start(uri: str, port: int) -> Server:
    command = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1"]  # one worker suffices for one user and starts fastest
    without_jobs = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    store = {"MLFLOW_BACKEND_STORE_URI": uri}  # not an argument, which every user of this machine could read
    environment = {**ENVIRONMENT, **without_jobs, **os.environ, **store}
    output = tempfile.TemporaryFile()  # noqa: SIM115  # closed by `stop_ui`
    process = subprocess.Popen(
        command, env=environment, start_new_session=True, stdout=output, stderr=subprocess.STDOUT
    )
    return Server(process, output)


def _check_free(port: int) -> None:
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) else "ports are numbers from 1 to 65535"
            msg = f"port {port} cannot be used ({reason}); choose another one: cphloc ui --port {min(port, 65534) + 1}"
            raise InputError(msg) from None


def _wait_for(url: str, server: Server) -> None:
    """Wait until the server answers.

    Raises:
        CphlocError: it ended, or does not answer for minutes.
    """
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end:
        if server.process.poll() is not None:
            raise CphlocError(server.failure())
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    msg = f"the MLflow user interface does not answer at {url}; end other programs and try again"
    raise CphlocError(msg)
