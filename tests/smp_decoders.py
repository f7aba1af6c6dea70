"""Compare a mask head with a decoder of segmentation-models-pytorch of the same weights, in 3-D on a single slice."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.testing import assert_close

from cphloc.ops.inflate import inflate
from cphloc.structures.levels import Level, Levels

SIDE = 64
WIDTHS = {2: 8, 4: 16, 8: 24, 16: 32, 32: 40}
"""Channels of the encoder by stride."""
CHANNELS = [3, *WIDTHS.values()]
"""Channels of the encoder as smp counts them, the image first."""


def features() -> list[Tensor]:
    """Feature maps of two images as smp's encoders give them: the image, then strides 2 to 32."""
    torch.manual_seed(5)
    return [torch.randn(2, c, SIDE // s, SIDE // s) for s, c in zip([1, *WIDTHS], CHANNELS, strict=True)]


def levels(dims: int, finest: int = 2) -> Levels:
    """Levels of `features` from stride ``finest``; a volume of one slice has stride 1 along the slices."""
    return tuple(Level(c, (1,) * (dims - 2) + (s, s)) for s, c in WIDTHS.items() if s >= finest)


def randomize(decoder: nn.Module) -> nn.Module:
    """Draw all weights and the statistics of batch norms, so that no layer is an identity in evaluation."""
    torch.manual_seed(7)
    for value in decoder.state_dict().values():
        if value.is_floating_point():
            value.uniform_(0.1, 0.3) if value.dim() == 1 else value.normal_(std=0.2)
    return decoder.eval()


def take_weights(pairs: Iterable[tuple[nn.Module, nn.Module]]) -> None:
    """Copy weights from the second module of each pair to the first, in order; in 3-D to the centre of the kernels."""
    for ours, theirs in pairs:
        mine, given = ours.state_dict(), list(theirs.state_dict().values())
        if len(mine) > len(given):  # our convolutions before a group norm have a bias, which smp's lack
            for name in [key for key in mine if key.endswith("conv.bias")]:
                mine.pop(name).zero_()
        for target, source in zip(mine.values(), given, strict=True):
            if target.dim() == 5:
                source = inflate(source, target.shape[2], "centre")
            target.copy_(source.view(target.shape))


def assert_equal(head: nn.Module, dims: int, finest: int | list[Tensor], expected: Tensor) -> None:
    """Compare what ``head`` scores with ``expected``, what smp scores.

    Args:
        head: a mask head whose ``score`` is a convolution, or a list of them, fine to coarse.
        dims: spatial axes; with 3 the maps become volumes of one slice.
        finest: stride of the finest of `features` that it takes, or its pyramid.
        expected: the features before smp's scores.
    """
    pyramid = finest
    if isinstance(finest, int):
        pyramid = [x for x, s in zip(features()[1:], WIDTHS, strict=True) if s >= finest]
    if dims == 3:
        pyramid = [x[:, :, None] for x in pyramid]
    seen: list[Tensor] = []
    score = head.score[0] if isinstance(head.score, nn.ModuleList) else head.score
    score.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.no_grad():
        head.eval()(tuple(pyramid))
    assert expected.std() > 0.01
    assert_close(seen[0].view_as(expected), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
