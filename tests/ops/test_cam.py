from __future__ import annotations

import pytest
import torch
from torch import nn

from cphloc.ops.cam import as_attention, class_activation, grad_cam


@pytest.mark.parametrize("grid", [(4, 5), (2, 4, 5)])
def test_grad_cam_behind_average_pooling_is_the_positive_cam_over_the_cells(grid):
    torch.manual_seed(0)
    features = torch.randn(3, 6, *grid, requires_grad=True)
    linear = nn.Linear(6, 2)
    logits = linear(features.flatten(2).mean(2))
    cells = features[0, 0].numel()
    for c in range(2):
        cam = class_activation(features, linear.weight)[:, c]
        torch.testing.assert_close(grad_cam(features, logits[:, c]), cam.relu().detach() / cells)
        torch.testing.assert_close(cam.flatten(1).mean(1) + linear.bias[c], logits[:, c])


@pytest.mark.parametrize("grid", [(4, 5), (2, 4, 5)])
def test_attention_of_a_map_sums_to_one_and_an_all_negative_map_is_even(grid):
    activation = torch.randn(2, *grid)
    activation[1] = -1
    attention = as_attention(activation)
    torch.testing.assert_close(attention.flatten(1).sum(1), torch.ones(2))
    assert attention[0][activation[0] < 0].abs().max() == 0
    assert attention[1].unique().numel() == 1
