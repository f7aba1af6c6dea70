from __future__ import annotations

import numpy as np
import pytest
import torch

from cphloc.components.head.multi_attention import MultiAttention
from cphloc.components.loss.attention_mass import AttentionMass
from cphloc.errors import InputError
from cphloc.ops.targets import Targets
from cphloc.structures.annotation import Annotation
from cphloc.structures.levels import Level

SIZES = [(16, 24), (8, 16, 24)]


def head_and_features(size: tuple[int, ...], cases: int, **arguments):
    torch.manual_seed(0)
    head = MultiAttention((Level(6, (4,) * len(size)),), classes=["cancer"], **arguments)
    return head, (torch.randn(cases, 6, *(n // 4 for n in size)),)


def boxed(size: tuple[int, ...]) -> Annotation:
    dims = len(size)
    return Annotation(
        boxes=np.array([[0] * dims + [4] * (dims - 1) + [8]], np.float32), box_classes=np.ones(1, np.int64)
    )


def sided(size: tuple[int, ...]) -> Annotation:
    half = np.zeros(size, np.float32)
    half[..., size[-1] // 2 :] = 1
    return Annotation(region=half, label=np.ones(1, np.float32))


@pytest.mark.parametrize("size", SIZES)
def test_every_slice_and_the_volume_and_their_product_sum_to_one(size):
    head, pyramid = head_and_features(size, 2)
    outputs = head(pyramid)
    torch.testing.assert_close(outputs.log_slice_attention.exp().flatten(2).sum(2), torch.ones(2, size[0] // 4))
    torch.testing.assert_close(outputs.log_volume_attention.exp().sum(1), torch.ones(2))
    torch.testing.assert_close(outputs.log_volume_attention_of_maxima.exp().sum(1), torch.ones(2))
    prediction = head.decode(outputs)
    torch.testing.assert_close(prediction.attention.flatten(1).sum(1), torch.ones(2))
    assert prediction.label_probabilities.shape == (2, 1)


@pytest.mark.parametrize("size", SIZES)
def test_slice_and_volume_terms_are_divergences_from_the_box(size):
    head, pyramid = head_and_features(size, 1)
    outputs = head(pyramid)
    losses = head.loss(outputs, Targets.collate([boxed(size)], size, 1))
    # The box covers cells 0 and 1 of the last axis, and cell 0 of every other: the first slice alone.
    inside = outputs.log_slice_attention[0, 0].reshape(-1)[:2]
    assert losses["slice_attention"].item() == pytest.approx((-np.log(2) - inside.mean()).item(), abs=1e-5)
    volume = outputs.log_volume_attention[0, 0] + outputs.log_volume_attention_of_maxima[0, 0]
    assert losses["volume_attention"].item() == pytest.approx(-volume.item(), abs=1e-5)
    assert losses["slice_side"].item() == 0


@pytest.mark.parametrize("size", SIZES)
def test_side_terms_follow_sybil_in_every_slice_and_weighted_by_volume_attention(size):
    head, pyramid = head_and_features(size, 1)
    outputs = head(pyramid)
    losses = head.loss(outputs, Targets.collate([sided(size)], size, 1))
    per_slice = outputs.log_slice_attention[0].exp()
    columns = per_slice.shape[-1] // 2
    sides = torch.stack([per_slice[..., :columns].flatten(1).sum(1), per_slice[..., columns:].flatten(1).sum(1)], 1)
    oracle = torch.nn.functional.cross_entropy(sides, torch.ones(len(sides), dtype=torch.long))
    torch.testing.assert_close(losses["slice_side"], oracle)
    weighted = (outputs.log_volume_attention[0].exp()[:, None] * sides).sum(0)
    oracle = torch.nn.functional.cross_entropy(weighted[None], torch.ones(1, dtype=torch.long))
    torch.testing.assert_close(losses["volume_side"], oracle)
    assert losses["slice_attention"].item() == 0


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("loss", [None, AttentionMass("per_box")])
def test_mixed_batch_is_finite_and_unannotated_cases_get_no_attention_gradient(size, loss):
    negative = Annotation(label=np.zeros(1, np.float32))
    annotations = [boxed(size), sided(size), negative, Annotation()]
    head, pyramid = head_and_features(size, 4, loss=loss)
    outputs = head(pyramid)
    losses = head.loss(outputs, Targets.collate(annotations, size, 1))
    assert all(torch.isfinite(value) for value in losses.values())
    supervised = sum(value for name, value in losses.items() if name != "label")
    maps = (outputs.log_slice_attention, outputs.log_volume_attention)
    for gradient in torch.autograd.grad(supervised, maps):
        per_case = gradient.flatten(1).abs().amax(1)
        assert (per_case[:2] > 0).all()
        assert per_case[2:].tolist() == [0, 0]


@pytest.mark.parametrize("size", SIZES)
def test_batch_without_any_annotation_gives_zero_with_a_gradient_for_every_parameter(size):
    head, pyramid = head_and_features(size, 2)
    total = sum(head.loss(head(pyramid), Targets.collate([Annotation()] * 2, size, 1)).values())
    total.backward()
    assert total.item() == 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())


def test_even_slice_kernel_and_missing_level_are_refused():
    levels = (Level(6, (4, 4, 4)),)
    with pytest.raises(InputError, match="must be odd"):
        MultiAttention(levels, classes=["cancer"], slice_kernel=4)
    with pytest.raises(InputError, match="level 1 does not exist"):
        MultiAttention(levels, classes=["cancer"], level=1)


def test_hazard_output_is_a_risk_that_never_falls():
    torch.manual_seed(0)
    head = MultiAttention((Level(6, (4, 4, 4)),), classes=["1", "2", "3", "4", "5", "6"], output="hazard")
    risk = head.decode(head((torch.randn(3, 6, 3, 4, 4),))).label_probabilities
    assert (risk.diff(dim=1) >= 0).all()
