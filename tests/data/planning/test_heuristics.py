import numpy as np
import pytest
import torch

from cphloc.components.backbone.conv_encoder import ConvEncoder
from cphloc.components.head.unet import UNet
from cphloc.data.planning.heuristics import plan_patch, stage_widths, target_spacing, topology, training_mb


@pytest.mark.parametrize(
    ("spacing", "patch", "pools"),
    [
        ((1, 1, 1), (40, 56, 40), (3, 3, 3)),
        ((1, 1, 1), (128, 128, 128), (5, 5, 5)),
        ((5, 1.25, 1.25), (20, 256, 224), (2, 5, 5)),
        ((3, 0.76, 0.76), (56, 192, 192), (3, 5, 5)),
        ((2.5, 0.7, 0.7), (80, 160, 160), (4, 5, 5)),
        ((1.25, 0.7, 0.7), (112, 160, 128), (4, 5, 5)),
    ],
)
def test_pools_are_those_of_the_reference(spacing, patch, pools):
    assert topology(spacing, patch).pools == pools
    assert topology(spacing, patch).patch == patch


def test_strides_and_kernels_of_the_anisotropic_reference():
    found = topology((5, 1.25, 1.25), (20, 256, 224))
    assert found.strides == ((1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2), (1, 2, 2))
    assert found.kernels == ((1, 3, 3), (1, 3, 3), *((3, 3, 3),) * 4)
    assert topology((1.25, 0.7, 0.7), (112, 160, 128)).strides[-1] == (1, 2, 2)


@pytest.mark.parametrize(
    ("spacing", "patch", "strides", "kernels"),
    [
        ((1, 1, 1), (40, 56, 40), [(1, 1, 1), *[(2, 2, 2)] * 3], [(3, 3, 3)] * 4),
        ((1, 1, 1), (128, 128, 128), [(1, 1, 1), *[(2, 2, 2)] * 5], [(3, 3, 3)] * 6),
        (
            (3, 0.76, 0.76),
            (56, 192, 192),
            [(1, 1, 1), (1, 2, 2), *[(2, 2, 2)] * 3, (1, 2, 2)],
            [(1, 3, 3), *[(3, 3, 3)] * 5],
        ),
        (
            (2.5, 0.7, 0.7),
            (80, 160, 160),
            [(1, 1, 1), (1, 2, 2), *[(2, 2, 2)] * 4],
            [(1, 3, 3), *[(3, 3, 3)] * 5],
        ),
        ((1.25, 0.7, 0.7), (112, 160, 128), [(1, 1, 1), *[(2, 2, 2)] * 4, (1, 2, 2)], [(3, 3, 3)] * 6),
    ],
)
def test_stages_are_those_of_the_reference(spacing, patch, strides, kernels):
    found = topology(spacing, patch)
    assert [list(found.strides), list(found.kernels)] == [strides, kernels]


@pytest.mark.parametrize(
    ("spacing", "patch"),
    [
        ((1, 1, 1), (256, 256, 256)),
        ((1, 1), (2048, 2048)),
        ((4, 1, 1), (102, 406, 406)),  # 256 * 4^(1/3) / spacing: one volume, as wide in mm along every axis
    ],
)
def test_first_patch_has_the_published_volume_and_is_a_cube_in_millimetres(spacing, patch):
    found = plan_patch(spacing, (5000,) * len(spacing), lambda chosen: True)
    whole = np.prod(found.strides, axis=0)
    assert found.patch == tuple(int(-(-p // s) * s) for p, s in zip(patch, whole, strict=True))


@pytest.mark.parametrize("dims", [2, 3])
def test_patch_is_padded_to_the_whole_stride(dims):
    found = topology((1,) * dims, (37, 50, 33)[:dims])
    assert all(p % s == 0 for p, s in zip(found.patch, np.prod(found.strides, axis=0), strict=True))


def test_spacing_is_the_median_unless_slices_are_thick():
    shapes = [[20, 256, 256]] * 11
    thick = [[5.0 + i, 1.0, 1.0] for i in range(11)]
    assert target_spacing(thick, shapes) == (6.0, 1.0, 1.0)
    assert target_spacing(thick, [[200, 256, 256]] * 11) == (10.0, 1.0, 1.0)
    assert target_spacing([[2.0, 1.0]] * 3, [[10, 90]] * 3) == (2.0, 1.0)


def test_hippocampus_gets_the_published_patch():
    assert plan_patch((1, 1, 1), (36, 50, 35), lambda chosen: np.prod(chosen.patch) <= 300_000).patch == (40, 56, 40)


@pytest.mark.parametrize("shape", [(300, 400), (60, 300, 400)])
def test_patch_stays_within_the_limit_and_the_image(shape):
    found = plan_patch((3.0, 1.0, 1.0)[-len(shape) :], shape, lambda chosen: np.prod(chosen.patch) <= 100_000)
    assert 20_000 < np.prod(found.patch) <= 100_000
    assert all(p <= n + s for p, n, s in zip(found.patch, shape, np.prod(found.strides, axis=0), strict=True))


@pytest.mark.parametrize("patch", [(40, 56, 40), (96, 64, 64), (512, 512)])
def test_memory_estimate_is_near_that_of_torch(patch):
    """Bytes that autograd keeps for the gradients of the planned U-Net, counted by torch itself."""
    dims, width = len(patch), 4
    chosen = topology((1.0,) * dims, patch)
    widths = stage_widths(len(chosen.strides), width, dims)
    encoder = ConvEncoder(1, dims, widths, list(chosen.strides), list(chosen.kernels))
    head = UNet(encoder.levels, classes=["object"])
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = head(encoder(torch.zeros(1, 1, *chosen.patch)))
    weights = sum(p.numel() * 4 for p in (*encoder.parameters(), *head.parameters()))
    measured = (sum(kept.values()) - weights) / 1e6
    assert outputs is not None
    assert 0.7 < training_mb(chosen, width) / measured < 1.5
