"""What the tests of several rooms share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from file_server import Server, served

from cphloc import paths

FIXTURE_REGISTRY = Path(__file__).parent / "fixture_registry"


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
