from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def mlflow_store(tmp_path_factory) -> str:
    """An sqlite store; making one takes seconds, so all tests share it, each with experiments of its own."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture(scope="session")
def mlflow_database(tmp_path_factory) -> Path:
    """An sqlite database with the tables of MLflow and nothing in them, to be copied."""
    from cphloc.tracking.server import client_of

    path = tmp_path_factory.mktemp("database") / "mlflow.db"
    client_of(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def tiny() -> dict:
    """A recipe on the cases that ship with cphloc, of a few steps of a small model."""
    return {
        "name": "tiny",
        "task": "segmentation",
        "dims": 3,
        "data": {"type": "hippocampus", "root": "sample", "patch": [16, 16, 16], "workers": 0},
        "model": {
            "backbone": {"type": "conv_encoder", "widths": [4, 8]},
            "heads": {
                "mask": {"type": "unet", "classes": {1: "anterior", 2: "posterior"}, "loss": {"type": "dice_ce"}}
            },
        },
        "train": {
            "steps": 4,
            "batch": 2,
            "optimizer": {"type": "AdamW", "lr": 1e-3},
            "validate_every": 2,
            "precision": "32",
        },
    }


@pytest.fixture
def at_work(tmp_path, tmp_path_factory, mlflow_store, monkeypatch):
    """An empty working folder, with the cache and the store that all tests share."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CPHLOC_CACHE", str(tmp_path_factory.getbasetemp() / "cphloc-cache"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_store)
    return tmp_path
