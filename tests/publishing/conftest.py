"""No test of this folder sees the zoos, the cache or the lock file of whoever runs it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from entry_fixtures import Trained

from cphloc.zoo.entry import Entry


@pytest.fixture(autouse=True)
def _own_folders(own_folders: None) -> None:
    """Use `own_folders` in every test."""


@pytest.fixture
def zoo(tmp_path: Path, registered: list[str]) -> Path:
    """The zoo folder that `put` publishes to."""
    return tmp_path / "zoo"


@pytest.fixture
def put(zoo: Path) -> Callable[..., Entry]:
    """Publishes a run as ``tiny``."""

    def put(run: Trained, version: str = "1.0.0", **more: Any) -> Entry:
        from cphloc.publishing.publish import publish

        return publish(run.folder, "tiny", version, to=zoo, **more)

    return put
