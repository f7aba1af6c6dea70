"""Families of networks that a plan can choose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cphloc.config.yamlio import inline
from cphloc.data.planning.heuristics import Topology


@dataclass(frozen=True)
class Preset:
    """A family of networks.

    Args:
        summary: what it is, one line.
        backbone: type of the backbone.
        blocks: residual blocks of each stage, fine to coarse; the last number holds for all further stages. Empty for
            plain convolutions, two per stage.
        decoder: further arguments of the ``unet`` head.
        width: channels of the first stage.
        memory_gb: memory of a training step in GB; ``None``: the default of a plan, see `Budget`.
    """

    summary: str
    backbone: str = "conv_encoder"
    blocks: tuple[int, ...] = ()
    decoder: str = ""
    width: int = 24
    memory_gb: float | None = None

    def convolutions(self, stages: int) -> list[int]:
        """Convolutions of each stage of the encoder.

        >>> PRESETS["resenc"].convolutions(5), PRESETS["unet"].convolutions(2)
        ([2, 6, 8, 12, 12], [2, 2])
        """
        return [2 * n for n in self._blocks(stages)] if self.blocks else [2] * stages

    def _blocks(self, stages: int) -> list[int]:
        return [*self.blocks, *[self.blocks[-1]] * stages][:stages]

    def lines(self, chosen: Topology, widths: Sequence[int]) -> list[str]:
        """Write the block ``model.backbone`` of a recipe, line by line."""
        return [
            f"    type: {self.backbone}",
            f"    widths: {inline(list(widths))}",
            *([f"    blocks: {inline(self._blocks(len(widths)))}"] if self.blocks else []),
            f"    strides: {inline([list(s) for s in chosen.strides])}",
            f"    kernels: {inline([list(k) for k in chosen.kernels])}",
        ]


def _resenc(summary: str, width: int = 32, memory_gb: float | None = None) -> Preset:
    """Residual encoder with the blocks of nnU-Net's plans (Isensee et al. 2024, arXiv:2404.09556)."""
    return Preset(summary, "residual_encoder", (1, 3, 4, 6), ", convolutions: 1", width, memory_gb)


PRESETS: Mapping[str, Preset] = {
    "unet": Preset("plain convolutions, two per stage"),
    "resenc": _resenc("residual encoder as in nnU-Net's ResEnc presets, within the usual memory", width=24),
    "resenc-m": _resenc("nnU-Net's ResEnc M, for a GPU of 8 GB", memory_gb=8),
    "resenc-l": _resenc("nnU-Net's ResEnc L, for a GPU of 24 GB", memory_gb=24),
    "resenc-xl": _resenc("nnU-Net's ResEnc XL, for a GPU of 40 GB", memory_gb=40),
}
"""Every preset by name, the default first."""
