import pytest
import torch
from benchmarks.blend import sliding_window

from cphloc.ops.sliding_window import gaussian_weight, steps


@pytest.mark.parametrize(
    ("size", "patch", "expected"),
    [
        (110, 64, [0, 23, 46]),
        (512, 128, [0, 64, 128, 192, 256, 320, 384]),
        (200, 128, [0, 36, 72]),
        (512, 192, [0, 80, 160, 240, 320]),
        (50, 64, [0]),
        (64, 64, [0]),
    ],
)
def test_steps_are_those_of_nnunet(size, patch, expected):
    assert steps(size, patch, 0.5) == expected


@pytest.mark.parametrize(("size", "patch"), [((40, 33), (16, 16)), ((9, 20, 17), (16, 8, 8)), ((5, 6), (8, 8))])
def test_identity_is_stitched_back_to_the_input(size, patch):
    x = torch.randn(1, 2, *size)
    assert torch.allclose(sliding_window(lambda window: window, x, patch), x, atol=1e-5)


@pytest.mark.parametrize("size", [(40, 33), (12, 20, 17)])
def test_a_constant_network_gives_a_constant_output(size):
    out = sliding_window(
        lambda window: torch.full((1, 3, *window.shape[2:]), 0.7), torch.zeros(1, 1, *size), (8,) * len(size)
    )
    assert out.shape == (1, 3, *size)
    assert torch.allclose(out, torch.full_like(out, 0.7), atol=1e-5)


def test_weight_is_a_gaussian_of_an_eighth_of_the_patch_with_no_zero():
    weight = gaussian_weight((64, 64, 64))
    assert weight.min() > 0
    assert weight[32, 32, 32] == 1
    assert weight[40, 32, 32].item() == pytest.approx(0.6065307, abs=1e-5)


def test_windows_never_reach_outside():
    seen = []
    sliding_window(lambda window: seen.append(tuple(window.shape[2:])) or window, torch.zeros(1, 1, 21, 30), (8, 16))
    assert set(seen) == {(8, 16)}
