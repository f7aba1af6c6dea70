from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from cphloc.components.backbone.conv_encoder import ConvEncoder
from cphloc.components.backbone.mlp import MultilayerPerceptron
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


def test_left_half_training_does_not_carry_over_to_the_right_half():
    """Lecture row 1: an MLP learns positions, so what it learned on the left says nothing on the right."""
    draw = torch.Generator().manual_seed(0)

    def images(low: int, high: int, count: int = 256) -> tuple[torch.Tensor, torch.Tensor]:
        x = 0.1 * torch.randn(count, 1, 12, 24, generator=draw)
        present = torch.rand(count, generator=draw) < 0.5
        for i in present.nonzero()[:, 0]:
            row, column = (int(torch.randint(a, b, (1,), generator=draw)) for a, b in ((0, 10), (low, high)))
            x[i, 0, row : row + 3, column : column + 3] += 1
        return x, present.float()

    torch.manual_seed(0)
    mlp = MultilayerPerceptron(1, 2, size=[12, 24], widths=[32])
    score = torch.nn.Linear(32, 1)
    optimizer = torch.optim.Adam([*mlp.parameters(), *score.parameters()], lr=3e-3)
    x, y = images(0, 9)
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(score(mlp(x)[0].flatten(1))[:, 0], y).backward()
        optimizer.step()

    def accuracy(x: torch.Tensor, y: torch.Tensor) -> float:
        return ((score(mlp(x)[0].flatten(1))[:, 0] > 0) == y.bool()).float().mean().item()

    assert accuracy(x, y) > 0.95
    assert accuracy(*images(12, 21)) < 0.7


def test_other_sizes_are_refused():
    with pytest.raises(InputError, match="along 3 axes"):
        MultilayerPerceptron(1, 3, size=[8, 8])
    with pytest.raises(InputError, match=r"\(8, 8\) voxels, got \(8, 9\)"):
        MultilayerPerceptron(1, 2, size=[8, 8])(torch.zeros(1, 1, 8, 9))
