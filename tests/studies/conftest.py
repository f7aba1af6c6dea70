from __future__ import annotations

from pathlib import Path

import pytest

STUDY = """\
claim: Convolutions find the object wherever it lies
expected: a higher AUC
base: cnn
overrides:
  data.size: [16, 16]
  data.patch: [16, 16]
  data.diameter_mm: [4, 5]
  data.distractors: [0, 0]
  data.cases: {train: 8, val: 4, test: 4}
  data.workers: 0
  model.backbone.widths: [4, 8]
  train: {steps: 2, batch: 4, precision: "32", validate_every: 2}
arms:
  convolutional: {}
  fully connected: {model.backbone: {type: mlp, size: [16, 16], widths: [8]}}
seeds: 2
metrics: [auc, brier]
compare: [[convolutional, fully connected]]
verdict:
  - {compare: [convolutional, fully connected], metric: brier, below: 10}
"""


@pytest.fixture
def work(tmp_path, monkeypatch, mlflow_store) -> Path:
    """An empty working folder with a store of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CPHLOC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_store)
    return tmp_path


@pytest.fixture(scope="session")
def mlflow_store(tmp_path_factory) -> str:
    """An sqlite store; making one takes seconds, so all tests share it."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture
def tiny(work) -> Path:
    """A study of four trainings of two steps."""
    path = work / "tiny.yaml"
    path.write_text(STUDY, encoding="utf-8")
    return path
