"""Any timm model that gives feature maps, as a backbone."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from cphloc.argument_types import NonNegativeInt
from cphloc.errors import InputError, did_you_mean
from cphloc.levels import Level, Levels


class Timm(nn.Module):
    """Feature pyramid of a timm model.

    Args:
        in_channels: image channels (wired); pretrained stems are adapted to any number of channels.
        dims: spatial axes (wired).
        name: timm model name, such as ``resnet18`` or ``tf_efficientnet_lite0``.
        pretrained: start from timm's weights (downloaded by timm when they are not in its cache).
        out_indices: which of the model's stages to give, fine to coarse; default all.

    Shapes:
        ``(N, in_channels, H, W)`` to one ``(N, C_i, H / stride_i, W / stride_i)`` per stage.

    Raises:
        InputError: a name timm does not know, or a model that gives no feature maps.

    Reference: Wightman, PyTorch Image Models, doi 10.5281/zenodo.4414861.
    """

    def __init__(
        self,
        in_channels: int,
        dims: int,
        name: str,
        pretrained: bool = False,
        out_indices: Sequence[NonNegativeInt] | None = None,
    ) -> None:
        super().__init__()
        self.body = _create(name, in_channels, pretrained, out_indices)
        self.levels: Levels = tuple(
            Level(channels, (reduction,) * dims)
            for channels, reduction in zip(
                self.body.feature_info.channels(), self.body.feature_info.reduction(), strict=True
            )
        )

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Feature maps, fine to coarse."""
        return tuple(self.body(x))


def _create(name: str, in_channels: int, pretrained: bool, out_indices: Sequence[int] | None) -> nn.Module:
    import timm

    if not timm.is_model(name):
        hint = did_you_mean(name, timm.list_models()) or "timm.list_models() names them all"
        msg = f"timm has no model '{name}'; {hint}"
        raise InputError(msg)
    chosen = {} if out_indices is None else {"out_indices": tuple(out_indices)}
    try:
        return timm.create_model(name, features_only=True, pretrained=pretrained, in_chans=in_channels, **chosen)
    except (RuntimeError, AttributeError, AssertionError, IndexError) as error:
        msg = f"timm model '{name}' gives no such feature pyramid ({error}); choose another model or out_indices"
        raise InputError(msg) from error
