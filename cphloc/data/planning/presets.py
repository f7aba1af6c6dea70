"""Families of networks that a plan can choose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cphloc.config.yamlio import inline
from cphloc.data.planning.heuristics import Topology


@dataclass(frozen=True)
class Preset:
    """A family of networks.

    Args:
        summary: what it is, one line.
        convolutions: convolutions per stage of the encoder, to estimate its memory.
    """

    summary: str
    convolutions: float = 2

    def backbone(self, chosen: Topology, widths: list[int]) -> list[str]:
        """Write the block ``model.backbone`` of a recipe, line by line."""
        return [
            "    type: conv_encoder",
            f"    widths: {inline(widths)}",
            f"    strides: {inline([list(s) for s in chosen.strides])}",
            f"    kernels: {inline([list(k) for k in chosen.kernels])}",
        ]


PRESETS: Mapping[str, Preset] = {
    "unet": Preset("plain convolutions, two per stage, as in nnU-Net"),
}
"""Every preset by name, the default first."""
