"""What the tests of several rooms share."""

from __future__ import annotations

from pathlib import Path

import pytest

from cphloc import paths

FIXTURE_REGISTRY = Path(__file__).parent / "fixture_registry"


@pytest.fixture
def fixture_registry(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Replace the shipped registry by one of a few components whose modules cannot be imported."""
    monkeypatch.setattr(paths, "registry_folders", lambda: [FIXTURE_REGISTRY])
    monkeypatch.syspath_prepend(str(FIXTURE_REGISTRY))
    return FIXTURE_REGISTRY
