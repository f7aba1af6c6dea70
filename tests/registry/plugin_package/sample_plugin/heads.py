"""Components of the plug-in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class PluginHead:
    """A head.

    Args:
        classes: what it finds.
        sharpness: how sharply.
    """

    def __init__(self, levels, classes: Mapping[int, str] | Sequence[str], sharpness: float = 1.0) -> None: ...
