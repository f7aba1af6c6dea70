from __future__ import annotations

import numpy as np
import pytest
import torch

from cphloc.components.head.faster_rcnn import FasterRCNN
from cphloc.ops.anchor_head import AnchorOutput
from cphloc.ops.boxes import encode, overlap_matrix
from cphloc.ops.targets import Targets
from cphloc.structures.annotation import Annotation
from cphloc.structures.levels import Level


def head_of(dims: int) -> FasterRCNN:
    sizes = [[[8.0] * dims]]
    return FasterRCNN((Level(4, (4,) * dims),), ["a", "b"], sizes, proposals=5, channels=4, pool=2, width=4)


@pytest.mark.parametrize("dims", [2, 3])
def test_without_any_object_there_are_four_finite_losses(dims):
    head = head_of(dims)
    none = Annotation(boxes=np.zeros((0, 2 * dims), np.float32), box_classes=np.zeros(0, np.int64))
    losses = head.loss(head((torch.randn(1, 4, *[4] * dims),)), Targets.collate([none], (16,) * dims, classes=2))
    assert set(losses) == {"proposal_score", "proposal_box", "class", "box"}
    assert all(torch.isfinite(loss) for loss in losses.values())


@pytest.mark.parametrize("dims", [2, 3])
def test_a_network_that_knows_the_anchors_proposes_every_object(dims):
    head = head_of(dims).proposer
    boxes = torch.tensor([[0.0] * dims + [7.0] * dims, [8.0] * dims + [15.0] * dims])
    zeros = AnchorOutput((torch.zeros(1, 1, *[4] * dims),), (torch.zeros(1, 2 * dims, *[4] * dims),))
    anchors = head.anchors(zeros)[0]
    assigned = head.assign([anchors], boxes, [])
    scores = torch.where(assigned >= 0, 9.0, -9.0).view(1, 1, *[4] * dims)
    deltas = encode(boxes[assigned.clamp(min=0)], anchors).T.view(1, 2 * dims, *[4] * dims)
    (proposals,) = head.propose(AnchorOutput((scores,), (deltas,)))
    assert len(proposals) <= 5
    assert (overlap_matrix(proposals, boxes).amax(dim=0) > 0.99).all()


@pytest.mark.parametrize("dims", [2, 3])
def test_proposals_lie_in_the_image_and_carry_no_gradient(dims):
    head = head_of(dims)
    outputs = head((torch.randn(2, 4, *[4] * dims, requires_grad=True),))
    for proposals in outputs.regions.proposals:
        assert not proposals.requires_grad
        assert proposals.min() >= 0
        assert proposals.max() <= 16


@pytest.mark.parametrize("dims", [2, 3])
def test_the_proposal_loss_looks_at_a_balanced_sample(dims):
    assigned = torch.full((1, 2000), -1)
    assigned[0, :300], assigned[0, 300:400] = 0, -2
    chosen, divisor = head_of(dims).proposer.counted(assigned)
    assert (chosen & (assigned >= 0)).sum() == 128
    assert (chosen & (assigned == -2)).sum() == 0
    assert chosen.sum() == divisor == 256
