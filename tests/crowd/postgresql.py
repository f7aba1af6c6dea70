"""An MLflow server on a PostgreSQL cluster of its own, in a temporary folder."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

WAIT_SECONDS = 180


@contextmanager
def mlflow_on_postgresql(folder: Path) -> Iterator[str]:
    """Start a cluster and a server; yield the server's URL, and stop both.

    Args:
        folder: folder for the artifacts and the log of the server.
    """
    with _cluster() as database, (folder / "server.log").open("w") as log:
        port = _free_port()
        command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", database, "--workers", "2"]
        command += ["--artifacts-destination", str(folder / "artifacts"), "--host", "127.0.0.1", "--port", str(port)]
        beside_python = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # MLflow calls uvicorn
        environment = os.environ | {"PATH": beside_python, "MLFLOW_DISABLE_TELEMETRY": "true"}
        server = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        url = f"http://127.0.0.1:{port}"
        try:
            _wait_for(url, server, folder / "server.log")
            yield url
        finally:
            with suppress(ProcessLookupError):
                os.killpg(server.pid, 15)
            server.wait(60)


@contextmanager
def _cluster() -> Iterator[str]:
    """Run a cluster as a user without rights, as PostgreSQL demands; yield the URL of its database."""
    place = Path(tempfile.mkdtemp(prefix="crowd-postgresql-"))
    as_user = []
    if os.getuid() == 0:
        shutil.chown(place, "postgres", "postgres")
        as_user = ["runuser", "-u", "postgres", "--"]
    data, port = place / "data", _free_port()
    options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={place}"
    control = [*as_user, _program("pg_ctl"), "-D", str(data)]
    create = [*as_user, _program("initdb"), "-D", str(data), "-A", "trust", "-U", "postgres", "--no-sync"]
    subprocess.run(create, cwd=place, check=True, stdout=subprocess.DEVNULL)
    subprocess.run([*control, "-w", "-o", options, "-l", str(place / "log"), "start"], cwd=place, check=True)
    try:
        yield f"postgresql+psycopg2://postgres@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], cwd=place, check=False)
        shutil.rmtree(place, ignore_errors=True)


def _program(name: str) -> str:
    """Find a program of PostgreSQL, which Debian keeps outside the path."""
    installed = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    found = str(installed[-1]) if installed else shutil.which(name)
    if found is None:
        msg = f"{name} is not installed: apt-get install postgresql"
        raise SystemExit(msg)
    return found


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + WAIT_SECONDS
    while server.poll() is None and time.monotonic() < end:
        with suppress(OSError):
            urllib.request.urlopen(f"{url}/health", timeout=5).close()
            return
        time.sleep(0.5)
    raise SystemExit(log.read_text()[-3000:])
