"""No test of this folder sees the zoos, the cache or the lock file of whoever runs it."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _own_folders(own_folders: None) -> None:
    """Use `own_folders` in every test."""
