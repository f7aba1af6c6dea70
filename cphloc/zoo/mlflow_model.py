"""Entries in the model registry of MLflow: ``models:/name/1``, ``models:/name/latest`` or ``models:/name@alias``."""

from __future__ import annotations

from pathlib import Path

from cphloc.errors import DataError
from cphloc.zoo.entries import Listing, find_entry
from cphloc.zoo.pins import check_unchanged

MODEL_PREFIX = "models:/"
"""Start of the names of registered models."""


def find_model(spec: str) -> Listing:
    """Find the entry that a registered model is, and download it unless it is in the cache.

    Raises:
        NotFoundError: no such model or version.
        DataError: it is an entry of another name, or a version of it that changed on the server.
    """
    from cphloc.tracking.model_registry import download_entry
    from cphloc.tracking.server import tracking_uri

    found = find_entry(Path(download_entry(spec)))
    name, _, version = spec.removeprefix(MODEL_PREFIX).partition("/")
    if name.partition("@")[0] != found.name:
        msg = f"{spec}: is the entry {found}, not '{name}'; register it again: cphloc zoo index"
        raise DataError(msg)
    if version.isdigit():  # ``latest`` and aliases may move to another version
        check_unchanged(str(found), f"{tracking_uri()}/{spec}", found.sha256)
    return found
