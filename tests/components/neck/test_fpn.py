import pytest
import torch

from cphloc.components.neck.fpn import FPN
from cphloc.structures.levels import Level


def pyramid(levels, size):
    return tuple(torch.randn(1, level.channels, *level.size(size)) for level in levels)


@pytest.mark.parametrize("dims", [2, 3])
def test_odd_sizes_keep_every_level_on_its_own_grid(dims):
    levels = tuple(Level(4 * 2**i, (2**i,) * dims) for i in range(4))
    size = (50, 25, 13)[:dims]
    neck = FPN(levels, channels=5, extra_levels=2)
    out = neck(pyramid(levels, size))
    assert [level.stride[0] for level in neck.levels] == [1, 2, 4, 8, 16, 32]
    assert [tuple(x.shape) for x in out] == [(1, 5, *level.size(size)) for level in neck.levels]


def test_zero_laterals_pass_the_coarsest_level_down_enlarged():
    levels = (Level(3, (1, 1)), Level(3, (2, 2)))
    neck = FPN(levels, channels=4)
    for parameter in neck.lateral[0].parameters():
        torch.nn.init.zeros_(parameter)
    neck.smooth[0] = neck.smooth[1] = torch.nn.Identity()
    fine, coarse = neck(pyramid(levels, (6, 8)))
    assert torch.equal(fine, coarse.repeat_interleave(2, 2).repeat_interleave(2, 3))


def test_enlarges_only_the_axes_whose_stride_changes():
    levels = (Level(3, (2, 2, 2)), Level(3, (2, 4, 4)))
    assert FPN(levels, channels=4)(pyramid(levels, (8, 16, 16)))[0].shape[2:] == (4, 8, 8)


def test_finest_leaves_out_finer_levels():
    levels = tuple(Level(4, (2**i, 2**i)) for i in range(3))
    assert [level.stride for level in FPN(levels, channels=4, finest=1).levels] == [(2, 2), (4, 4)]
