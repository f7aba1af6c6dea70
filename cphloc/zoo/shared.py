"""Find weights that several versions of a zoo share: one of their folders holds the file, the others only its hash."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from cphloc.zoo.index import Row, version_folders
from cphloc.zoo.inside import file_inside
from cphloc.zoo.names import WEIGHTS_FILE

if TYPE_CHECKING:
    from cphloc.zoo.entry import Weights


def shared_weights(zoo: Path, weights: Weights) -> Path | None:
    """Find the file with the hash of ``weights`` among the versions of a zoo folder; ``None`` where none has it."""
    from cphloc.zoo.entry import File

    for _, _, folder in version_folders(zoo, lambda name: True):
        path = file_inside(folder, WEIGHTS_FILE)
        if path.is_file() and path.stat().st_size == weights.bytes and File.of(path).sha256 == weights.sha256:
            return path
    return None


def shared_urls(place: Path | str, weights: Weights, rows: Iterable[Row]) -> list[str]:
    """List where else in a zoo at a URL the weights of a version may be: with versions whose weights are as large.

    Args:
        place: URL of the version; a folder has no such places.
        weights: its weights.
        rows: every version of the zoo.
    """
    if isinstance(place, Path):
        return []
    zoo = place.rsplit("/", 2)[0]
    folders = (f"{zoo}/{row.name}/{row.version}" for row in rows if row.weights_bytes == weights.bytes)
    return [f"{folder}/{WEIGHTS_FILE}" for folder in folders if folder != place]
