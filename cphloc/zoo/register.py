"""Tell MLflow about every entry of a zoo, so that anyone can open the comparison."""

from __future__ import annotations

from pathlib import Path

from cphloc.zoo.entries import list_entries


def register_zoo(folder: str | Path) -> list[str]:
    """Give every version in a zoo folder its summary run and its version in the model registry, where it lacks them.

    Returns:
        the versions, oldest first.

    Raises:
        CphlocError: MLflow cannot be reached.
    """
    from cphloc.training import tracking

    listed = list_entries(all_versions=True, zoos=[str(folder)])
    for listing in reversed(listed):  # MLflow counts versions in the order they come, and the last one is `latest`
        tracking.register_entry(listing.entry, Path(listing.place))
    return [str(listing) for listing in reversed(listed)]
