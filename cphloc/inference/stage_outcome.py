"""What each stage of a pipeline did to one image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class StageOutcome:
    """What one stage of a pipeline did to one image.

    Args:
        name: of the stage.
        entry: name and version of its entry.
        ran: whether it ran.
        start: first voxel of what it saw, per axis.
        shape: number of voxels of it; all of the image where it saw the whole.
        missed: whether the stage that its crop encloses has found nothing.
        why: why it did not run, or saw the whole image although it has a crop; else empty.
        warnings: ways in which what it saw is unlike what it was trained on.
    """

    name: str
    entry: str
    ran: bool
    start: tuple[int, ...]
    shape: tuple[int, ...]
    missed: bool = False
    why: str = ""
    warnings: tuple[str, ...] = ()

    def to_plain(self) -> dict[str, Any]:
        """Convert to JSON-serializable values."""
        facts: dict[str, Any] = {"name": self.name, "entry": self.entry, "ran": self.ran}
        facts |= {"start": list(self.start), "shape": list(self.shape)} if self.ran else {}
        facts |= {"why": self.why} if self.why else {}
        return facts | ({"warnings": list(self.warnings)} if self.warnings else {})
