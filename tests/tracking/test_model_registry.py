"""Entries from the model registry of an MLflow server that may be a stranger's."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from file_server import Handler, drip, send_json, serving

from cphloc.download import limits
from cphloc.errors import NotFoundError
from cphloc.tracking import model_registry


@pytest.fixture
def answer(tmp_path, monkeypatch):
    """Let the server answer with this run id, and with these files of the model."""

    def answer(run_id: str, *files: str) -> None:
        def download(artifact_uri: str, dst_path: str, tracking_uri: str) -> None:
            for file in files:
                Path(dst_path, file).parent.mkdir(parents=True, exist_ok=True)
                Path(dst_path, file).write_text("x")

        model = SimpleNamespace(version="1", run_id=run_id, source="runs:/a/model")
        monkeypatch.setattr(model_registry, "client_of", lambda uri: None)
        monkeypatch.setattr(model_registry, "_model_version", lambda *a: model)
        monkeypatch.setattr("mlflow.artifacts.download_artifacts", download)
        monkeypatch.setenv("CPHLOC_CACHE", str(tmp_path / "cache"))

    return answer


def test_no_answer_of_a_server_leads_out_of_the_cache(answer, tmp_path):
    answer("/../../../../outside", "data/1.0.0/entry.yaml")
    folder = model_registry.download_entry("models:/a/1")
    assert folder.resolve().is_relative_to(tmp_path / "cache" / "mlflow")
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_a_model_that_is_no_entry_is_one_line(answer):
    answer("r", "MLmodel")
    with pytest.raises(NotFoundError, match=r"without entry\.yaml, not an entry"):
        model_registry.download_entry("models:/a/1")


ANSWERS = {
    "registered-models/alias": {"model_version": {"name": "a", "version": "1", "source": "mlflow-artifacts:/1/x"}},
    "model-versions/get": {"model_version": {"name": "a", "version": "1", "source": "mlflow-artifacts:/1/x"}},
    "mlflow-artifacts/artifacts?": {"files": [{"path": "entry.yaml", "is_dir": False, "file_size": 10**9}]},
}


@pytest.mark.parametrize("drips", ["model-versions/get", "mlflow-artifacts/artifacts?", "artifacts/1/x/entry.yaml"])
def test_a_server_that_drips_is_given_up_in_one_line(tmp_path, monkeypatch, drips):
    """A byte every tenth of a second, as the answer about the model, as the list of its files, or as a file."""

    import mlflow.tracking  # noqa: F401  (the import takes long, once)

    def answer(handler: Handler) -> None:
        if drips in handler.path:
            drip(handler)
        send_json(handler, next((known for part, known in ANSWERS.items() if part in handler.path), {}))

    monkeypatch.delenv("CPHLOC_OFFLINE", raising=False)
    monkeypatch.setenv("CPHLOC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(model_registry, "ANSWER_SECONDS", 1.0)
    monkeypatch.setattr(limits, "PROCESS_SECONDS", 1.0 if drips != "artifacts/1/x/entry.yaml" else 8.0)
    with serving(answer) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{address}")
        started = time.monotonic()
        with pytest.raises(NotFoundError, match=r"too slow|did not answer") as caught:
            model_registry.download_entry("models:/a/1")
    assert time.monotonic() - started < 60
    assert "\n" not in str(caught.value)
    assert not any(path.is_dir() for path in (tmp_path / "cache").glob("mlflow/*"))
