from __future__ import annotations

import pytest
import torch

from cphloc.components.neck.bifpn import BiFPN
from cphloc.errors import InputError
from cphloc.structures.levels import Level


def pyramid_of(dims: int) -> tuple[tuple[Level, ...], tuple[torch.Tensor, ...]]:
    """Depths 50, 25, 13, 7 as in the lecture, on an anisotropic pyramid."""
    levels = tuple(Level(4 + i, (2**i, *[2 ** (i + 1)] * (dims - 1))) for i in range(4))
    sizes = [(d, *[n] * (dims - 1)) for d, n in ((50, 9), (25, 5), (13, 3), (7, 2))]
    return levels, tuple(torch.randn(1, level.channels, *s) for level, s in zip(levels, sizes, strict=True))


@pytest.mark.parametrize("dims", [2, 3])
def test_odd_sizes_keep_their_shape(dims):
    levels, pyramid = pyramid_of(dims)
    neck = BiFPN(levels, channels=8)
    assert [x.shape[2:] for x in neck(pyramid)] == [x.shape[2:] for x in pyramid]
    assert neck.levels == tuple(Level(8, level.stride) for level in levels)


@pytest.mark.parametrize("dims", [2, 3])
def test_every_output_sees_every_level_and_every_parameter_is_used(dims):
    levels, pyramid = pyramid_of(dims)
    neck = BiFPN(levels, channels=8, repeats=1)
    for out in range(len(levels)):
        inputs = [x.clone().requires_grad_() for x in pyramid]
        neck(tuple(inputs))[out].sum().backward()
        assert all(x.grad.abs().sum() > 0 for x in inputs)
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in neck.parameters())


@pytest.mark.parametrize("dims", [2, 3])
def test_a_single_level_only_changes_its_channels(dims):
    neck = BiFPN((Level(3, (4,) * dims),), channels=5)
    assert neck((torch.randn(1, 3, *[6] * dims),))[0].shape == (1, 5, *[6] * dims)


@pytest.mark.parametrize("dims", [2, 3])
def test_finest_leaves_out_finer_levels(dims):
    levels, pyramid = pyramid_of(dims)
    neck, coarse = BiFPN(levels, channels=8, finest=1), BiFPN(levels[1:], channels=8)
    coarse.load_state_dict(neck.state_dict())
    assert neck.levels == coarse.levels
    assert all(map(torch.equal, neck(pyramid), coarse(pyramid[1:])))
    with pytest.raises(InputError, match="level 4 does not exist"):
        BiFPN(levels, finest=4)
