from __future__ import annotations

import numpy as np
import pytest
import torch

from cphloc.components.head.attention_pool import AttentionPool
from cphloc.components.loss.attention_kl import AttentionKL
from cphloc.ops.targets import Targets
from cphloc.structures.annotation import Annotation
from cphloc.structures.levels import Level

SIZES = [(16, 24), (8, 16, 24)]


def head_and_features(size: tuple[int, ...], cases: int, **arguments):
    torch.manual_seed(0)
    dims = len(size)
    head = AttentionPool((Level(4, (2,) * dims), Level(6, (4,) * dims)), classes=["cancer"], **arguments)
    pyramid = tuple(torch.randn(cases, c, *(n // s for n in size)) for c, s in ((4, 2), (6, 4)))
    return head, pyramid


def of_every_rung(size: tuple[int, ...]) -> list[Annotation]:
    """A mask, a box, a side, a positive and a negative label, "no object", and nothing at all."""
    dims = len(size)
    mask, half = np.zeros(size, np.uint8), np.zeros(size, np.float32)
    mask[(slice(2, 5),) * dims] = 1
    half[..., size[-1] // 2 :] = 1
    one, zero = np.ones(1, np.float32), np.zeros(1, np.float32)
    return [
        Annotation(mask=mask),
        Annotation(boxes=np.array([[1] * dims + [7] * dims], np.float32), box_classes=np.ones(1, np.int64)),
        Annotation(region=half, label=one),
        Annotation(label=one),
        Annotation(label=zero),
        Annotation(boxes=np.zeros((0, 2 * dims), np.float32), box_classes=np.zeros(0, np.int64)),
        Annotation(),
    ]


@pytest.mark.parametrize("size", SIZES)
def test_attention_sums_to_one_and_prediction_has_its_shapes(size):
    head, pyramid = head_and_features(size, 2)
    prediction = head.decode(head(pyramid))
    assert prediction.label_probabilities.shape == (2, 1)
    assert prediction.attention.shape == (2, *(n // 4 for n in size))
    torch.testing.assert_close(prediction.attention.flatten(1).sum(1), torch.ones(2))


@pytest.mark.parametrize("size", SIZES)
def test_mixed_batch_is_finite_and_unannotated_cases_get_no_attention_gradient(size):
    annotations = of_every_rung(size)
    head, pyramid = head_and_features(size, len(annotations))
    outputs = head(pyramid)
    losses = head.loss(outputs, Targets.collate(annotations, size, 1))
    assert all(torch.isfinite(value) for value in losses.values())
    gradient = torch.autograd.grad(losses["attention"] + losses["side"], outputs.log_attention)[0]
    per_case = gradient.flatten(1).abs().amax(1)
    assert (per_case[:3] > 0).all()
    assert per_case[3:].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("size", SIZES)
def test_gradients_without_annotation_are_those_of_classification_alone(size):
    annotations = of_every_rung(size)[3:5]
    head, pyramid = head_and_features(size, 2)
    targets = Targets.collate(annotations, size, 1)
    parameters = list(head.parameters())
    whole = torch.autograd.grad(sum(head.loss(head(pyramid), targets).values()), parameters)
    label = torch.autograd.grad(head.loss(head(pyramid), targets)["label"], parameters)
    for a, b in zip(whole, label, strict=True):
        torch.testing.assert_close(a, b, atol=0, rtol=0)


@pytest.mark.parametrize("size", SIZES)
def test_batch_without_any_annotation_gives_zero_with_a_gradient_for_every_parameter(size):
    head, pyramid = head_and_features(size, 2)
    losses = head.loss(head(pyramid), Targets.collate([Annotation(), Annotation()], size, 1))
    total = sum(losses.values())
    total.backward()
    assert total.item() == 0
    assert all(p.grad is not None and p.grad.abs().max() == 0 for p in head.parameters())


@pytest.mark.parametrize("size", SIZES)
def test_loss_is_averaged_over_annotated_cases_not_over_the_batch(size):
    boxed = of_every_rung(size)[1]
    head, pyramid = head_and_features(size, 3)
    alone = head.loss(head(tuple(x[:1] for x in pyramid)), Targets.collate([boxed], size, 1))["attention"]
    among = head.loss(head(pyramid), Targets.collate([boxed, Annotation(), Annotation()], size, 1))["attention"]
    torch.testing.assert_close(alone, among)


def test_weights_scale_their_terms_and_losses_can_be_chosen():
    size = (16, 24)
    annotations = of_every_rung(size)
    targets = Targets.collate(annotations, size, 1)
    head, pyramid = head_and_features(size, len(annotations), weight=3.0, side_weight=0.5)
    plain, _ = head_and_features(size, len(annotations))
    divergent, _ = head_and_features(size, len(annotations), loss=AttentionKL())
    scaled, once, kl = (h.loss(h(pyramid), targets) for h in (head, plain, divergent))
    torch.testing.assert_close(scaled["attention"], 3 * once["attention"])
    torch.testing.assert_close(scaled["side"], 0.5 * once["side"])
    assert not torch.isclose(kl["attention"], once["attention"])


def test_training_moves_the_attention_into_the_box():
    size = (16, 16)
    head, pyramid = head_and_features(size, 1)
    targets = Targets.collate([of_every_rung(size)[1]], size, 1)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.1)
    for _ in range(100):
        optimizer.zero_grad()
        loss = sum(head.loss(head(pyramid), targets).values())
        loss.backward()
        optimizer.step()
    attention = head.decode(head(pyramid)).attention
    assert attention[0, :2, :2].sum() > 0.9


def test_hazard_output_is_a_risk_that_never_falls():
    torch.manual_seed(0)
    years = [f"within {t} years" for t in range(1, 7)]
    head = AttentionPool((Level(6, (4, 4, 4)),), classes=years, output="hazard")
    risk = head.decode(head((torch.randn(3, 6, 2, 4, 4),))).label_probabilities
    assert risk.shape == (3, 6)
    assert (risk.diff(dim=1) >= 0).all()


def test_attention_stays_float32_under_autocast():
    head, pyramid = head_and_features((16, 24), 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = head(pyramid)
    assert outputs.log_attention.dtype == torch.float32
    torch.testing.assert_close(outputs.log_attention.exp().flatten(1).sum(1), torch.ones(2))
