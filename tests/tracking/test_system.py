"""System metrics of a training, by MLflow's own monitors."""

from __future__ import annotations

import time

import pytest

from cphloc.tracking import record
from cphloc.tracking.system import system_metrics
from cphloc.tracking.tracker import Tracker


@pytest.fixture
def tracker(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # nothing is sent
    monkeypatch.delenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", raising=False)
    return Tracker(tmp_path, "cphloc/system", "a run")


def sampled(tracker, seconds: float) -> dict:
    import mlflow.system_metrics  # noqa: F401  (the import takes seconds, once)

    with system_metrics(tracker):
        time.sleep(seconds)
    return record.curves(tracker.folder)


def test_a_short_run_has_one_sample_and_a_resumed_one_goes_on(tracker):
    import psutil

    curves = sampled(tracker, 0.2)
    [(step, used)] = curves["system/system_memory_usage_megabytes"]
    assert (step, "system/cpu_utilization_percentage" in curves) == (1, True)
    assert used == pytest.approx(psutil.virtual_memory().used / 1e6, rel=0.5)
    assert [step for step, _ in sampled(tracker, 0.2)["system/cpu_utilization_percentage"]] == [1, 2]


def test_samples_are_taken_at_the_interval_of_mlflow(tracker, monkeypatch):
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")
    assert len(sampled(tracker, 1.5)["system/cpu_utilization_percentage"]) >= 3


def test_they_are_switched_off_by_the_variable_of_mlflow(tracker, monkeypatch):
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
    assert sampled(tracker, 0.1) == {}


def test_a_rewound_log_keeps_them(tracker):
    for step in (1, 2):
        tracker.system({"system/cpu_utilization_percentage": 5.0}, step)
        record.append(tracker.folder, {"event": "metrics", "step": step, "time_ms": 1, "values": {"train/loss": 1.0}})
    record.rewind(tracker.folder, step=1, sent=0)
    curves = record.curves(tracker.folder)
    assert [step for step, _ in curves["system/cpu_utilization_percentage"]] == [1, 2]
    assert [step for step, _ in curves["train/loss"]] == [1]
