"""What the tests of several rooms share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from file_server import Server, served

from cphloc import paths

if "PYTEST_XDIST_WORKER" in os.environ:  # workers that each use all cores wait for one another in every small operation
    os.environ.setdefault("OMP_NUM_THREADS", "1")

pytest_plugins = ["entry_fixtures", "training_fixtures"]

FIXTURE_REGISTRY = Path(__file__).parent / "registry" / "fixture_registry"


@pytest.fixture
def fixture_registry(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Replace the shipped registry by one of a few components whose modules cannot be imported."""
    monkeypatch.setattr(paths, "registry_folders", lambda: [FIXTURE_REGISTRY])
    monkeypatch.syspath_prepend(str(FIXTURE_REGISTRY))
    return FIXTURE_REGISTRY


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server of the files in its ``root``."""
    root = tmp_path / "served"
    root.mkdir()
    with served(root) as server:
        yield server
