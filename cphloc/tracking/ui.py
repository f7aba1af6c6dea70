"""Serve the MLflow user interface from a thread of this process, so that no process is left when this one is killed.

The command ``mlflow ui`` would import MLflow in two further processes, which takes about 12 s of CPU.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any

from cphloc.errors import CphlocError, InputError, without_secrets
from cphloc.tracking.server import client_of, reaching, reason_of, set_environment, tracking_uri
from cphloc.tracking.zoo_experiment import VIEW, zoo_experiment

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import uvicorn

    App = Callable[[Any, Any, Any], Awaitable[None]]

START_PATH = "/entries"
"""Path that opens the table of published entries."""

_START_SECONDS = 180.0
_STOP_SECONDS = 5
_PROGRAMS = ("mlflow", "uvicorn", "alembic", "asyncio", "flask")
_START_PAGE = """<!doctype html>
<html lang="en"><title>Published entries</title>
<script>
localStorage["mlflow.assistant.fab.autoOpenedOnFirstLoad_v1"] = "true";
localStorage["mlflow.workflowType_v1"] ??= '"machine_learning"';
location.replace("/{page}");
</script>
"""
"""Page that goes to the table. It sets two of MLflow's own entries in the browser's storage: that the chat panel, which
opens by itself on the first visit and covers the table's last columns, has been opened; and the menu of trainings."""


class Server:
    """The user interface of a database, which answers once it is created.

    Args:
        uri: URI of the database.
        listening: bound socket.
        page: fragment of the address of the table of published entries.

    Raises:
        CphlocError: it does not start.
    """

    def __init__(self, uri: str, listening: socket.socket, page: str) -> None:
        self._server, self._failure = _server(uri, page), ""
        self._thread = threading.Thread(target=self._run, args=(listening,), name="MLflow user interface", daemon=True)
        self._thread.start()
        end = time.monotonic() + _START_SECONDS
        while not self._server.started and self._thread.is_alive() and time.monotonic() < end:
            time.sleep(0.02)
        if not self._server.started:
            self._server.should_exit = True
            msg = f"the MLflow user interface does not start ({self._failure or 'it does not answer'})"
            raise CphlocError(msg)

    def wait(self) -> None:
        """Wait until it ends.

        Raises:
            CphlocError: it failed.
        """
        while self._thread.is_alive():
            self._thread.join(0.5)  # Windows passes no Ctrl-C to a program that waits without limit
        if self._failure:
            msg = f"the MLflow user interface ended ({self._failure}); start it again: cphloc ui"
            raise CphlocError(msg)

    def stop(self) -> None:
        """Stop it; requests that are being answered get some seconds to end."""
        self._server.should_exit = True
        self._thread.join(_STOP_SECONDS + 1)

    def _run(self, listening: socket.socket) -> None:
        try:
            self._server.run([listening])
        except SystemExit:
            self._failure = "the application does not start"
        except Exception as error:
            self._failure = reason_of(error)
        finally:
            listening.close()


def start_ui(port: int = 5000) -> tuple[Server | None, str]:
    """Start the MLflow UI for the database at `tracking_uri`; if that is an MLflow server, start nothing.

    Args:
        port: port of the UI on this machine.

    Returns:
        the server (``None`` if nothing was started), and the URL of the runs of published entries.

    Raises:
        InputError: another program uses the port.
        CphlocError: the server or database cannot be opened.
    """
    uri = tracking_uri()
    is_server = uri.startswith(("http://", "https://"))
    listening = None if is_server else _bound(port)
    try:
        with reaching(uri, "see MLFLOW_TRACKING_URI"):
            experiment = zoo_experiment(client_of(uri), uri)
        page = f"#/experiments/{experiment}/runs?workflowType=machine_learning&viewStateShareKey={VIEW}"
        if listening is None:
            return None, f"{without_secrets(uri).rstrip('/')}/{page}"
        return Server(uri, listening, page), f"http://127.0.0.1:{port}{START_PATH}"
    except BaseException:
        if listening is not None:
            listening.close()
        raise


def _server(uri: str, page: str) -> uvicorn.Server:
    """Prepare MLflow's application as its command does, without what it prints."""
    set_environment()
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
    warnings.filterwarnings("ignore", module=r"(?!cphloc\b)")
    for name in _PROGRAMS:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    with reaching(uri, "install MLflow again"):
        import uvicorn
        from mlflow.server import constants
        from mlflow.server.fastapi_app import app

        with contextlib.suppress(Exception):  # MLflow ignores errors here, too: most have not its extra "auth"
            # Defines tables. MLflow imports it with the first request, when half-defined ones break other threads.
            import mlflow.server.auth  # noqa: F401
        os.environ[constants.BACKEND_STORE_URI_ENV_VAR] = uri
        os.environ[constants.SERVE_ARTIFACTS_ENV_VAR] = "true"
        stated = {
            constants.ARTIFACT_ROOT_ENV_VAR: ("MLFLOW_DEFAULT_ARTIFACT_ROOT", "mlflow-artifacts:/"),
            constants.ARTIFACTS_DESTINATION_ENV_VAR: ("MLFLOW_ARTIFACTS_DESTINATION", "./mlartifacts"),
        }
        for internal, (public, default) in stated.items():
            os.environ[internal] = os.environ.get(public) or default
        options: dict[str, Any] = {"log_config": None, "timeout_graceful_shutdown": _STOP_SECONDS}
        return uvicorn.Server(uvicorn.Config(_with_start_page(app, _START_PAGE.format(page=page)), **options))


def _with_start_page(app: App, html: str) -> App:
    """Let an ASGI application answer `START_PATH` with a page."""
    from starlette.responses import HTMLResponse

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        """Answer a request."""
        at_start = scope["type"] == "http" and scope["path"] == START_PATH
        await (HTMLResponse(html) if at_start else app)(scope, receive, send)

    return answer


def _bound(port: int) -> socket.socket:
    """Return a socket of this machine that listens at a port.

    Raises:
        InputError: another program uses the port.
    """
    opened = socket.socket()
    if os.name != "nt":  # where it would let several programs use one port
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        opened.bind(("127.0.0.1", port))
        opened.listen()
    except (OSError, OverflowError) as error:
        opened.close()
        reason = error.strerror if isinstance(error, OSError) else "ports are numbers from 1 to 65535"
        msg = f"port {port} cannot be used ({reason}); choose another one: cphloc ui --port {min(port, 65534) + 1}"
        raise InputError(msg) from None
    return opened
