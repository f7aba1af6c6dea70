"""A whole segmentation network of MONAI, for imported weights that have no exact counterpart here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Literal

from torch import Tensor, nn

from cphloc.components.loss.dice_ce import DiceCE
from cphloc.config.argument_types import Plain
from cphloc.errors import InputError, needs
from cphloc.ops.mask_head import MaskHead
from cphloc.structures.levels import Levels

_OURS = ("spatial_dims", "in_channels", "out_channels")
"""Arguments of the networks that the model states."""


class MonaiNetwork(MaskHead):
    """A network of MONAI from image to logits, on the ``identity`` backbone.

    Args:
        levels: the image as the only level, set when the model is built.
        classes: foreground classes, ``{1: tumour}`` or ``[tumour]``.
        name: class in ``monai.networks.nets``.
        arguments: its arguments besides ``spatial_dims``, ``in_channels`` and ``out_channels``.
        scores: ``softmax``, or ``sigmoid`` for classes that may overlap, as in ``unet``; only for predictions.
        loss: a loss that takes masks; default ``dice_ce``.

    Shapes:
        image to logits ``(N, K + 1, *S)``, background first, of ``sigmoid`` ``(N, K, *S)``.

    Raises:
        MissingExtraError: MONAI is not installed.
        InputError: the backbone is not ``identity``, or the network does not take the arguments.

    Reference: Cardoso et al. 2022, MONAI, arXiv:2211.02701.
    """

    def __init__(
        self,
        levels: Levels,
        classes: Mapping[int, str] | Sequence[str],
        name: Literal["UNet", "BasicUNet", "SegResNet", "SwinUNETR"],
        arguments: Mapping[str, Plain] | None = None,
        scores: Literal["softmax", "sigmoid"] = "softmax",
        loss: nn.Module | None = None,
    ) -> None:
        super().__init__(levels, classes, loss or DiceCE(), scores=scores)
        if len(levels) != 1 or set(levels[0].stride) != {1}:
            msg = "monai_network takes the image itself; use backbone: {type: identity}"
            raise InputError(msg)
        with needs("head 'monai_network'"):
            from monai.networks import nets
        made = getattr(nets, name)
        given = dict(arguments or {})
        if unknown := [key for key in given if key in _OURS or key not in signature(made).parameters]:
            msg = f"monai_network: {name} of MONAI does not take the argument '{unknown[0]}' here; remove it"
            raise InputError(msg)
        try:
            self.network: nn.Module = made(
                spatial_dims=levels[0].dims, in_channels=levels[0].channels, out_channels=self.channels, **given
            )
        except (ValueError, TypeError, AssertionError, KeyError) as error:
            msg = f"monai_network: {name} of MONAI refuses its arguments ({error}); correct them"
            raise InputError(msg) from error

    def forward(self, pyramid: tuple[Tensor, ...]) -> Tensor:
        """Logits at full resolution."""
        return self.network(pyramid[0])
