"""Start and stop the MLflow user interface."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress

from cphloc.errors import without_secrets
from cphloc.tracking.model_registry import zoo_experiment
from cphloc.tracking.server import ENVIRONMENT, tracking_uri


def start_ui(port: int = 5000) -> tuple[subprocess.Popen[bytes] | None, str]:
    """Start the MLflow UI for the database at `tracking_uri`; if that is an MLflow server, start nothing.

    Args:
        port: port of the UI on this machine.

    Returns:
        the process, to be ended by `stop_ui` (``None`` if nothing was started), and the URL of the runs of published
        entries.

    Raises:
        CphlocError: the server or database cannot be opened.
    """
    uri = tracking_uri()
    page = f"#/experiments/{zoo_experiment()}/runs?workflowType=machine_learning"
    if uri.startswith(("http://", "https://")):
        return None, f"{without_secrets(uri).rstrip('/')}/{page}"
    command = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1"]  # one worker suffices for one user and starts fastest
    without_jobs = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    store = {"MLFLOW_BACKEND_STORE_URI": uri}  # not an argument, which every user of this machine could read
    environment = {**ENVIRONMENT, **without_jobs, **os.environ, **store}
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    return process, f"http://127.0.0.1:{port}/{page}"


def stop_ui(process: subprocess.Popen[bytes]) -> None:
    """Stop the UI and the processes that it started."""
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
    else:  # Windows has no process groups; taskkill ends the children as well
        subprocess.run(["taskkill", "/F", "/T", "/PID", str(process.pid)], check=False, capture_output=True)
    process.wait()
