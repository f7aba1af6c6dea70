from __future__ import annotations

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.testing import assert_close

from cphloc.components.backbone.conv_encoder import ConvEncoder
from cphloc.components.backbone.mlp import MultilayerPerceptron
from cphloc.components.head.gap import GlobalAveragePool
from cphloc.errors import InputError


@pytest.mark.parametrize("size", [(6, 8), (4, 6, 8)])
def test_one_cell_as_large_as_the_image(size):
    backbone = MultilayerPerceptron(2, len(size), size=size, widths=[5, 3])
    (features,) = backbone(torch.randn(4, 2, *size))
    (level,) = backbone.levels
    assert features.shape == (4, level.channels, *level.size(size)) == (4, 3, *(1,) * len(size))


def test_shifted_object_gives_other_features_where_a_convolution_with_pooling_gives_the_same():
    torch.manual_seed(0)
    x = torch.zeros(1, 1, 16, 16)
    x[..., 5:8, 4:7] = 1
    shifted = x.roll(4, dims=-1)
    dense = MultilayerPerceptron(1, 2, size=[16, 16])
    assert (dense(x)[0] - dense(shifted)[0]).abs().max() > 0.01
    conv = ConvEncoder(1, 2, widths=[4], norm="none")
    assert_close(conv(x)[0].mean((2, 3)), conv(shifted)[0].mean((2, 3)))


@pytest.mark.parametrize("dims", [2, 3])
def test_an_object_moved_by_its_own_width_is_as_far_off_as_one_that_is_gone(dims):
    """The lecture's vectors [0, 1, 1, 0, ...] and [0, 0, 1, 1, ...]: nearly the same picture, yet far apart."""
    x = torch.zeros(2, 1, *(8,) * dims)
    x[0, ..., 1:3], x[1, ..., 2:4] = 1, 1
    row = x[(slice(None), 0, *(0,) * (dims - 1))]
    assert row[0].tolist() == [0, 1, 1, 0, 0, 0, 0, 0]
    assert torch.dist(row[0], row[1]).item() == pytest.approx(2**0.5) == row[0].norm().item()
    encoder = ConvEncoder(1, dims, widths=[4], norm="none")
    with torch.no_grad():
        near, moved = encoder(x.roll(2, dims=-1))[0].flatten(2).mean(2)  # away from the border
    assert_close(near, moved)


SIZES = {2: (10, 20), 3: (6, 8, 16)}
OBJECT = {2: 3, 3: 2}
"""Side of the object: 9 voxels of 200, 8 of 768."""


def halves(dims: int, half: str, count: int, draw: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise, with a bright object in one half of every other image; and which images hold it."""
    *others, width = SIZES[dims]
    x = 0.1 * torch.randn(count, 1, *others, width, generator=draw)
    present = torch.arange(count) % 2 == 0
    for i in present.nonzero()[:, 0]:
        places = [n - OBJECT[dims] + 1 for n in (*others, width // 2)]
        at = [int(torch.randint(n, (1,), generator=draw)) for n in places]
        at[-1] += width // 2 if half == "right" else 0
        x[(i, 0, *(slice(a, a + OBJECT[dims]) for a in at))] += 1
    return x, present.float()


def auc_by_half(backbone: torch.nn.Module, dims: int, rate: float, steps: int, seed: int) -> list[float]:
    """Train on objects in the left half; AUC in new images with the object on the left, and on the right."""
    draw = torch.Generator().manual_seed(seed)
    head = GlobalAveragePool(backbone.levels, ["object"])
    optimizer = torch.optim.Adam([*backbone.parameters(), *head.parameters()], lr=rate)
    x, y = halves(dims, "left", 256, draw)
    for _ in range(steps):
        optimizer.zero_grad()
        binary_cross_entropy_with_logits(head(backbone(x)).logits[:, 0], y).backward()
        optimizer.step()
    areas = []
    for half in ("left", "right"):
        x, y = halves(dims, half, 512, draw)
        with torch.no_grad():
            score = head(backbone(x)).logits[:, 0]
        areas.append((score[y == 1, None] > score[y == 0]).float().mean().item())
    return areas


@pytest.mark.parametrize("dims", [2, 3])
def test_what_an_mlp_learns_on_the_left_says_nothing_on_the_right_where_a_convolution_goes_on(dims):
    """The mean of four networks, for the untrained weights of the right half sway a single one by a tenth."""
    dense = []
    for seed in range(4):
        torch.manual_seed(seed)
        mlp = MultilayerPerceptron(1, dims, size=SIZES[dims], widths=[32])
        dense.append(auc_by_half(mlp, dims, rate=3e-3, steps=60, seed=seed))
    left, right = torch.tensor(dense).mean(0).tolist()
    assert left >= 0.9
    assert 0.45 <= right <= 0.6
    convolutional = ConvEncoder(1, dims, widths=[8, 16], convolutions=1, norm="none", activation="relu")
    assert min(auc_by_half(convolutional, dims, rate=2e-2, steps=40, seed=0)) >= 0.95


def test_other_sizes_are_refused():
    with pytest.raises(InputError, match="along 3 axes"):
        MultilayerPerceptron(1, 3, size=[8, 8])
    with pytest.raises(InputError, match=r"\(8, 8\) voxels, got \(8, 9\)"):
        MultilayerPerceptron(1, 2, size=[8, 8])(torch.zeros(1, 1, 8, 9))
