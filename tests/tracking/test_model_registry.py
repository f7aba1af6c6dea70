"""Entries from the model registry of an MLflow server that may be a stranger's."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

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
