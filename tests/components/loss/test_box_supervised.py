from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from cphloc.components.head.unet import UNet
from cphloc.components.loss.box_supervised import BoxSupervised
from cphloc.components.loss.dice_ce import DiceCE
from cphloc.errors import InputError
from cphloc.ops.targets import Targets
from cphloc.structures.annotation import Annotation
from cphloc.structures.levels import Level

SIZE = {2: (12, 14), 3: (6, 10, 12)}


def box(dims, low, high):
    return [float(low)] * dims + [float(high)] * dims


def cases(dims):
    """A case with a mask, one with boxes alone, one with a label alone, and one whose boxes are of one class only."""
    mask = np.zeros(SIZE[dims], np.uint8)
    mask[(slice(1, 4),) * dims] = 1
    two = np.array([box(dims, 1, 4), box(dims, 3, 6)], np.float32)
    return [
        Annotation(mask=mask),
        Annotation(boxes=two, box_classes=np.array([1, 2])),
        Annotation(label=np.array([1, np.nan], np.float32)),
        Annotation(boxes=two[:1], box_classes=np.array([1]), boxes_known=np.array([True, False])),
    ]


def batch(dims):
    targets = Targets.collate(cases(dims), SIZE[dims], classes=2)
    return replace(targets, images=torch.randn(4, 1, *SIZE[dims], generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("dims", [2, 3])
def test_each_case_teaches_by_what_it_has(dims):
    torch.manual_seed(0)
    targets = batch(dims)
    logits = torch.randn(4, 3, *SIZE[dims], requires_grad=True)
    loss = BoxSupervised()
    assert loss.box_cases(targets).tolist() == [False, True, False, True]
    gradient = torch.autograd.grad(loss.of_boxes(logits, targets), logits)[0]
    assert gradient.flatten(1).abs().amax(1).bool().tolist() == [False, True, False, True]
    assert_close(loss(logits[:1], targets.masks[:1]), DiceCE()(logits[:1], targets.masks[:1]))


@pytest.mark.parametrize("dims", [2, 3])
def test_a_head_reports_both_losses_and_their_numbers_of_cases(dims):
    head = UNet((Level(3, (1,) * dims),), ["a", "b"], loss=BoxSupervised())
    outputs, targets = head((torch.randn(4, 3, *SIZE[dims]),)), batch(dims)
    losses = head.loss(outputs, targets)
    assert set(losses) == {"mask", "boxes"}
    assert {name: int(n) for name, n in head.loss_cases(targets).items()} == {"boxes": 2}
    plain = UNet((Level(3, (1,) * dims),), ["a", "b"])
    plain.load_state_dict(head.state_dict())
    assert_close(plain.loss(outputs, targets)["mask"], losses["mask"])
    assert plain.loss_cases(targets) == {}


@pytest.mark.parametrize("dims", [2, 3])
def test_of_a_class_that_nobody_looked_for_nothing_is_learned(dims):
    """Its score and that of the background are one: moving probability between them changes nothing."""
    torch.manual_seed(0)
    targets = batch(dims)
    logits = torch.zeros(4, 3, *SIZE[dims])
    moved = logits.clone()
    moved[3, 0], moved[3, 2] = np.log(1.5), np.log(0.5)
    loss = BoxSupervised()
    assert_close(loss.of_boxes(moved, targets), loss.of_boxes(logits, targets))
    moved[1, 0], moved[1, 2] = np.log(1.5), np.log(0.5)
    assert loss.of_boxes(moved, targets) != pytest.approx(loss.of_boxes(logits, targets).item(), abs=1e-4)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_second_object_of_the_class_is_no_mistake_of_the_first(dims):
    """Two boxes of one class, both filled: the projections are perfect, which they are not for one box alone."""
    apart = np.array([box(dims, 0, 2), box(dims, 3, 6)], np.float32)
    both = Annotation(boxes=apart, box_classes=np.array([1, 1]))
    one = Annotation(boxes=apart[:1], box_classes=np.array([1]))
    logits = torch.full((1, 2, *SIZE[dims]), -20.0)
    logits[:, 0] = 0
    for low, high in ((0, 2), (3, 6)):
        logits[(0, 1, *(slice(low, high),) * dims)] = 20
    loss = BoxSupervised(pairwise_weight=0)
    assert loss.of_boxes(logits, Targets.collate([both], SIZE[dims], 1)) < 1e-4
    assert loss.of_boxes(logits, Targets.collate([one], SIZE[dims], 1)) > 0.5
    crowd = Annotation(boxes=apart, box_classes=np.array([1, -1]))
    assert loss.of_boxes(logits, Targets.collate([crowd], SIZE[dims], 1)) < 1e-4


@pytest.mark.parametrize("dims", [2, 3])
def test_the_training_begins_with_filled_boxes_and_goes_over_to_the_other_terms(dims):
    logits = torch.randn(1, 2, *SIZE[dims], generator=torch.Generator().manual_seed(0))
    boxes = np.array([box(dims, 1, 4), box(dims, 3, 6)], np.float32)
    targets = Targets.collate([Annotation(boxes=boxes, box_classes=np.array([1, -1]))], SIZE[dims], classes=1)
    targets = replace(targets, images=torch.randn(1, 1, *SIZE[dims], generator=torch.Generator().manual_seed(1)))
    filled = torch.zeros(1, *SIZE[dims], dtype=torch.long)
    filled[(0, *(slice(3, 6),) * dims)] = 255  # a crowd: nothing is known there
    filled[(0, *(slice(1, 4),) * dims)] = 1
    loss = BoxSupervised(warmup=0.2)
    values = []
    for loss.progress in (0.0, 0.1, 0.2, 1.0):
        values.append(loss.of_boxes(logits, targets).item())
    assert values[0] == pytest.approx(DiceCE()(logits, filled).item(), rel=1e-5)
    assert values[1:] == pytest.approx([(values[0] + values[-1]) / 2, values[-1], values[-1]])
    assert values[0] != pytest.approx(values[-1], rel=0.1)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dims", [2, 3])
def test_a_box_of_one_voxel_has_a_loss(dims):
    targets = Targets.collate([Annotation(boxes=np.array([box(dims, 1, 2)]), box_classes=np.array([1]))], SIZE[dims], 1)
    targets = replace(targets, images=torch.randn(1, 1, *SIZE[dims], generator=torch.Generator().manual_seed(1)))
    logits = torch.zeros(1, 2, *SIZE[dims], requires_grad=True)
    loss = BoxSupervised().of_boxes(logits, targets)
    assert loss.isfinite()
    assert torch.autograd.grad(loss, logits)[0].isfinite().all()


@pytest.mark.parametrize("dims", [2, 3])
def test_an_edge_inside_a_box_counts_the_same_beside_bright_and_dark_voxels_far_away(dims):
    """As the air around a patient, which is a thousand times as far from tissue as a tumour is."""
    grid = np.indices(SIZE[dims])
    image = torch.from_numpy((((grid - 3) ** 2).sum(0) < 4).astype(np.float32))[None, None]
    image = image + 0.1 * torch.randn(image.shape, generator=torch.Generator().manual_seed(1))
    boxes = np.array([box(dims, 1, 6)], np.float32)
    targets = Targets.collate([Annotation(boxes=boxes, box_classes=np.array([1]))], SIZE[dims], classes=1)
    logits = torch.randn(1, 2, *SIZE[dims], generator=torch.Generator().manual_seed(0))
    loss = BoxSupervised(projection_weight=0, dilation=1)
    near = loss.of_boxes(logits, replace(targets, images=image)).item()
    image[..., -2:] = -1000
    assert loss.of_boxes(logits, replace(targets, images=image)).item() == pytest.approx(near)
    assert near > 0


def test_without_images_pairs_are_refused():
    with pytest.raises(InputError, match="give the targets of a batch its images"):
        BoxSupervised().of_boxes(torch.zeros(4, 3, *SIZE[2]), replace(batch(2), images=None))


@pytest.mark.parametrize(("dims", "size"), [(2, 24), (3, 14)])
def test_a_network_learns_discs_from_their_boxes(dims, size):
    """Beyond what filled boxes reach, which are all that the annotations state."""
    grid = np.indices((size,) * dims)
    draw = np.random.default_rng(1)
    centres = draw.uniform(0.35 * size, 0.65 * size, (4, dims, *(1,) * dims))
    masks = ((grid - centres) ** 2).sum(1) < (size / 4) ** 2
    corners = [np.argwhere(mask) for mask in masks]
    boxes = np.array([[*found.min(0), *(found.max(0) + 1)] for found in corners], np.float32)
    images = torch.from_numpy((3 * masks + draw.normal(0, 0.3, masks.shape))[:, None].astype(np.float32))
    annotations = [Annotation(boxes=box[None], box_classes=np.array([1])) for box in boxes]
    targets = replace(Targets.collate(annotations, (size,) * dims, classes=1), images=images)
    torch.manual_seed(1)
    convolution = {2: torch.nn.Conv2d, 3: torch.nn.Conv3d}[dims]
    layers = [convolution(a, b, 3, padding=1) for a, b in ((1, 8), (8, 8), (8, 2))]
    network = torch.nn.Sequential(layers[0], torch.nn.LeakyReLU(), layers[1], torch.nn.LeakyReLU(), layers[2])
    optimizer, loss = torch.optim.Adam(network.parameters(), 3e-3), BoxSupervised()
    for step in range(300):
        loss.progress = step / 300
        optimizer.zero_grad()
        loss.of_boxes(network(images), targets).backward()
        optimizer.step()
    found = network(images).argmax(1).numpy() > 0
    assert 2 * (found & masks).sum() / (found.sum() + masks.sum()) > 0.95
