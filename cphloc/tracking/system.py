"""Log the use of CPU, memory, disk, network and GPU during a training, sampled by MLflow."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cphloc.tracking import record
from cphloc.tracking.server import IMPORTING, set_environment

if TYPE_CHECKING:
    from cphloc.tracking.tracker import Tracker

PREFIX = "system/"
"""Start of the names under which MLflow's user interface shows system metrics."""

_INTERVAL_SECONDS = 10.0
_END_SECONDS = 10.0

_log = logging.getLogger(__name__)


@contextmanager
def system_metrics(tracker: Tracker) -> Iterator[None]:
    """Log system metrics every 10 seconds, and once at the end of a shorter time.

    MLflow's own variables apply: ``MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL`` in seconds, and
    ``MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING=false``, which switches them off.

    Args:
        tracker: tracker of the run.
    """
    if os.environ.get("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true").lower() in ("false", "0"):
        yield
        return
    ended, late = threading.Event(), threading.Event()
    sampler = threading.Thread(target=_sample, args=(tracker, ended, late), name="system metrics", daemon=True)
    sampler.start()
    try:
        yield
    finally:
        ended.set()
        sampler.join(_END_SECONDS)
        late.set()


def _sample(tracker: Tracker, ended: threading.Event, late: threading.Event) -> None:
    """Sample until ``ended``, and log nothing when it is too ``late``; a resumed run goes on with the next step."""
    try:
        monitors, interval = _monitors()
        recorded = record.curves(tracker.folder)
        step = 1 + max((values[-1][0] for name, values in recorded.items() if name.startswith(PREFIX)), default=0)
        first = step
        while True:
            for monitor in monitors:
                monitor.collect_metrics()
            over = ended.wait(interval)
            if late.is_set() or (over and step > first):
                return
            values = {PREFIX + name: v for monitor in monitors for name, v in monitor.aggregate_metrics().items()}
            tracker.system(values, step)
            if over:
                return
            step += 1
            for monitor in monitors:
                monitor.clear_metrics()
    except Exception as error:  # nothing about tracking ends a training
        _log.debug("no system metrics: %s", error)


def _monitors() -> tuple[list[Any], float]:
    """MLflow's monitors of this machine, and the interval in seconds."""
    set_environment()
    with IMPORTING:
        from mlflow.environment_variables import MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL
        from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
        from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
        from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
        from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor
        from mlflow.system_metrics.metrics.rocm_monitor import ROCMMonitor

    monitors: list[Any] = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    for monitor in (GPUMonitor, ROCMMonitor):
        try:
            monitors.append(monitor())
        except Exception as error:  # no such GPU, or not the library that reads it
            _log.debug("%s: %s", monitor.__name__, error)
    return monitors, MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL.get() or _INTERVAL_SECONDS
