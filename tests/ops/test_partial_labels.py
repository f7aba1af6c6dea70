import pytest
import torch

from cphloc.components.loss.cross_entropy import CrossEntropy
from cphloc.components.loss.dice_ce import DiceCE
from cphloc.ops.mask_loss import mask_loss
from cphloc.ops.partial_labels import marginalized, silenced
from cphloc.ops.targets import Targets
from cphloc.structures.annotation import Annotation

SIZES = {2: (4, 5), 3: (3, 4, 5)}
both = pytest.mark.parametrize("dims", [2, 3])


def logits_of(dims, batch=2, classes=3):
    torch.manual_seed(0)
    return (3 * torch.randn(batch, classes + 1, *SIZES[dims])).requires_grad_()


@both
def test_background_means_background_or_an_unknown_class(dims):
    """Cross-entropy is -log of the sum of the probabilities that the annotation leaves open."""
    logits = logits_of(dims, batch=1)
    target = torch.zeros(1, *SIZES[dims], dtype=torch.long)
    target[0, 0] = 1
    p = logits.detach().double().softmax(1)[0]
    expected = -torch.where(target[0] == 1, p[1], p[0] + p[2] + p[3]).log().mean()
    merged = marginalized(logits, torch.tensor([[True, False, False]]))
    assert float(CrossEntropy()(merged, target)) == pytest.approx(float(expected), rel=1e-5)


@both
def test_the_loss_does_not_depend_on_how_open_probability_is_shared(dims):
    """Moving probability between the background and an unknown class changes nothing; gradients say so."""
    logits, known = logits_of(dims), torch.tensor([[True, False, True], [True, True, True]])
    target = torch.randint(0, 2, (2, *SIZES[dims]))
    DiceCE()(marginalized(logits, known), target).backward()
    p = logits.detach().softmax(1)
    open_share = torch.stack([p[0, 0], p[0, 2]])
    gradient = torch.stack([logits.grad[0, 0], logits.grad[0, 2]])
    torch.testing.assert_close(gradient[0] * open_share[1], gradient[1] * open_share[0], atol=1e-6, rtol=1e-3)
    assert logits.grad.isfinite().all()
    assert logits.grad[1].abs().sum() > 0


def test_known_classes_are_left_as_they_are():
    logits = logits_of(2)
    assert marginalized(logits, torch.ones(2, 3, dtype=torch.bool)) is logits
    assert silenced(logits, torch.ones(1, dtype=torch.bool)) is logits


@both
def test_a_contour_of_a_class_that_does_not_count_is_not_in_the_target(dims):
    """A doubtful contour: neither its voxels nor the absence of others are taught."""
    import numpy as np

    mask = np.zeros(SIZES[dims], np.uint8)
    mask[0], mask[1] = 1, 2
    annotation = Annotation(mask=mask, mask_known=np.array([True, False, True]))
    targets = Targets.collate([annotation], SIZES[dims], 3)
    assert targets.mask_known.tolist() == [[True, False, True]]
    assert sorted(targets.masks.unique().tolist()) == [0, 1]
    assert [int(c) for c in targets.box_classes[0]] == [1]
    assert targets.labels[0, [0, 2]].tolist() == [1.0, 0.0]
    assert targets.labels[0, 1].isnan()
    sure = torch.full((1, 4, *SIZES[dims]), -20.0)
    sure[:, 0] = 20.0
    sure[:, :2, 0] = torch.tensor([-20.0, 20.0]).view(2, *(1,) * (dims - 1))
    for unknown_is in (0, 2):
        logits = sure.clone()
        logits[0, 0, 1], logits[0, 2, 1] = (20.0, -20.0) if unknown_is == 0 else (-20.0, 20.0)
        assert float(mask_loss(DiceCE(), logits, targets)) == pytest.approx(0, abs=1e-4)
