from __future__ import annotations

import pytest
import torch
from torch import nn

from cphloc.errors import InputError
from cphloc.training.finetune import take_over


def network(dims, channels, classes):
    conv = (nn.Conv2d, nn.Conv3d)[dims - 2]
    return nn.Sequential(conv(channels, 4, 3, padding=1), nn.ReLU(), conv(4, 4, 3, padding=1), conv(4, classes, 1))


def test_equal_networks_become_equal():
    old, new = network(2, 1, 3), network(2, 1, 3)
    report = take_over(new, old.state_dict(), "old")
    assert len(report.loaded) == 6
    assert not report.adapted
    assert not report.skipped
    x = torch.randn(1, 1, 8, 8)
    assert torch.equal(old(x), new(x))


def test_other_classes_leave_only_their_layer_fresh():
    report = take_over(network(2, 1, 5), network(2, 1, 3).state_dict(), "old")
    assert list(report.skipped) == ["3.weight", "3.bias"]
    assert "2 left fresh" in str(report)
    assert "(3, 4, 1, 1) there, (5, 4, 1, 1) here" in str(report)


def test_a_grey_image_in_a_colour_network_gives_what_it_gave_before():
    old, new = network(2, 1, 2), network(2, 3, 2)
    take_over(new, old.state_dict(), "old")
    x = torch.randn(1, 1, 8, 8)
    assert torch.allclose(old(x), new(x.expand(-1, 3, -1, -1)), atol=1e-5)


def test_a_volume_of_equal_slices_gives_in_its_middle_what_the_2d_network_gave():
    old, new = network(2, 1, 2), network(3, 1, 2)
    report = take_over(new, old.state_dict(), "old")
    assert sorted(report.adapted) == ["0.weight", "2.weight", "3.weight"]
    x = torch.randn(1, 1, 8, 8)
    volume = x[:, :, None].expand(-1, -1, 9, -1, -1)
    assert torch.allclose(old(x), new(volume)[:, :, 4], atol=1e-5)


def test_weights_of_another_architecture_are_refused():
    with pytest.raises(InputError, match="no weight of 'other' fits"):
        take_over(network(2, 1, 2), nn.Linear(3, 3).state_dict(), "other")
