"""What every box head owes the rest: the same tests for all of them, in 2-D and 3-D."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from cphloc.components.head.centernet import CenterNet
from cphloc.components.head.dense_box import DenseBox
from cphloc.components.head.fast_rcnn import FastRCNN
from cphloc.components.head.faster_rcnn import FasterRCNN
from cphloc.components.head.fcos import FCOS
from cphloc.components.head.global_box import GlobalBox
from cphloc.components.head.mask_rcnn import MaskRCNN
from cphloc.components.head.rcnn import RCNN
from cphloc.components.head.retina import Retina
from cphloc.components.head.yolo import YOLO
from cphloc.components.head.yolox import YOLOX
from cphloc.components.loss.box_iou import BoxIoU
from cphloc.components.suppression.nms import NMS
from cphloc.components.suppression.soft_nms import SoftNMS
from cphloc.components.suppression.weighted_box_clustering import WeightedBoxClustering
from cphloc.ops.boxes import overlap
from cphloc.ops.detections import Suppression
from cphloc.ops.targets import Detections, Targets
from cphloc.registry import catalogue
from cphloc.structures.annotation import Annotation
from cphloc.structures.levels import Level

SIDE = 16
OBJECT = [4.0, 12.0]
SMALL = {"channels": 8, "convolutions": 1}
REGIONS = {"width": 16, "pool": 3, "channels": 8, "samples": 16}

HEADS = {
    "global_box": (GlobalBox, {}),
    "dense_box": (DenseBox, SMALL),
    "retina, atss": (Retina, SMALL),
    "retina, best overlap": (Retina, {**SMALL, "assignment": "max_iou"}),
    "fcos": (FCOS, SMALL),
    "centernet": (CenterNet, SMALL),
    "yolo": (YOLO, {}),
    "yolox": (YOLOX, SMALL),
    "rcnn": (RCNN, {"widths": [8, 16], "crop": 8, "samples": 16}),
    "fast_rcnn": (FastRCNN, REGIONS),
    "faster_rcnn": (FasterRCNN, {**REGIONS, "proposals": 16}),
    "mask_rcnn": (MaskRCNN, {**REGIONS, "proposals": 16, "mask_pool": 2, "mask_channels": 8, "mask_convolutions": 1}),
}
PROPOSING = ("faster_rcnn", "mask_rcnn")
"""Heads that find the proposals of their second stage themselves."""

every_head = pytest.mark.parametrize("name", HEADS)
both = pytest.mark.parametrize("dims", [2, 3])


def levels_of(dims: int) -> tuple[Level, ...]:
    return tuple(Level(8, (s,) * dims) for s in (4, 8))


def make(name: str, dims: int) -> nn.Module:
    torch.manual_seed(0)
    head, args = HEADS[name]
    if "rcnn" in name and name not in PROPOSING:
        args = {**args, "proposal_sizes": [[8.0] * dims]}
    return head(levels_of(dims), ["a", "b"], **args)


def features(dims: int, images: int = 2) -> tuple[torch.Tensor, ...]:
    draw = torch.Generator().manual_seed(1)
    return tuple(torch.randn(images, 8, *[SIDE // s] * dims, generator=draw).requires_grad_() for s in (4, 8))


def annotated(dims: int, classes: list[int]) -> Annotation:
    boxes = np.array([[OBJECT[0]] * dims + [OBJECT[1]] * dims] * len(classes), np.float32)
    return Annotation(boxes=boxes.reshape(-1, 2 * dims), box_classes=np.array(classes, np.int64))


def targets_of(dims: int, *annotations: Annotation) -> Targets:
    return Targets.collate(annotations, (SIDE,) * dims, classes=2)


@every_head
@both
def test_a_case_without_boxes_gives_no_gradient_even_if_its_targets_are_nan(name, dims):
    head, pyramid = make(name, dims), features(dims)
    targets = targets_of(dims, annotated(dims, [1]), Annotation())
    targets.boxes[1] = torch.full((1, 2 * dims), torch.nan)
    targets.box_classes[1] = torch.ones(1, dtype=torch.int64)
    losses = head.loss(head(pyramid), targets)
    sum(losses.values()).backward()
    for x in pyramid:
        if x.grad is not None:
            assert torch.isfinite(x.grad).all()
            assert x.grad[1].abs().sum() == 0
    assert sum(x.grad[0].abs().sum() for x in pyramid if x.grad is not None) > 0


@every_head
@both
@pytest.mark.parametrize("annotation", ["nobody looked", "no object"])
def test_a_batch_without_objects_is_finite_and_carries_the_graph(name, dims, annotation):
    head, pyramid = make(name, dims), features(dims)
    none = Annotation() if annotation == "nobody looked" else annotated(dims, [])
    losses = head.loss(head(pyramid), targets_of(dims, none, none))
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert annotation == "no object" or sum(losses.values()) == 0
    sum(losses.values()).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in head.parameters())


@every_head
@both
def test_what_is_in_a_box_to_ignore_gives_no_gradient(name, dims):
    """A crowd of both classes over the whole image teaches nothing; with an object in it, only the object counts."""
    head, pyramid = make(name, dims), features(dims)
    whole = np.array([[0.0] * dims + [SIDE] * dims] * 2, np.float32)
    crowd = Annotation(boxes=whole, box_classes=np.array([-1, -2]))
    losses = head.loss(head(pyramid), targets_of(dims, crowd, crowd))
    total = sum(losses.values())
    gradients = torch.autograd.grad(total, pyramid, allow_unused=True)
    assert total.item() == 0
    assert all(g is None or g.abs().max() == 0 for g in gradients)
    alone = annotated(dims, [1])
    both_kinds = Annotation(
        boxes=np.concatenate([alone.boxes, whole]), box_classes=np.concatenate([alone.box_classes, [-1, -2]])
    )
    torch.manual_seed(0)
    joined = head.loss(head(pyramid), targets_of(dims, both_kinds, both_kinds))
    torch.manual_seed(0)
    single = head.loss(head(pyramid), targets_of(dims, alone, alone))
    assert 0 < sum(joined.values()) < torch.inf
    if name not in PROPOSING:  # it divides by the number of anchors that count, not by that of objects
        assert all(joined[part] <= single[part] + 1e-6 for part in joined)
        assert sum(joined.values()) < sum(single.values())


@pytest.mark.parametrize("name", [n for n in HEADS if "rcnn" not in n])
@both
def test_the_loss_does_not_depend_on_how_often_an_image_stands_in_the_batch(name, dims):
    head, (fine, coarse) = make(name, dims).eval(), features(dims, images=1)
    once = head.loss(head((fine, coarse)), targets_of(dims, annotated(dims, [1])))
    twice = head.loss(
        head((fine.repeat(3, *[1] * (dims + 1)), coarse.repeat(3, *[1] * (dims + 1)))),
        targets_of(dims, *[annotated(dims, [1])] * 3),
    )
    for part, value in once.items():
        torch.testing.assert_close(twice[part], value, atol=1e-4, rtol=1e-4)


@every_head
@both
def test_detections_are_sorted_real_boxes_of_known_classes(name, dims):
    head = make(name, dims).eval()
    for module in head.modules():
        if hasattr(module, "suppression"):
            module.suppression = replace(module.suppression, score=1e-5)
        elif hasattr(module, "score_threshold"):
            module.score_threshold = 1e-5
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        found = head.decode(head(features(dims))).detections
    assert len(found) == 2
    assert sum(map(len, found)) > 0 or name == "yolo"
    for each in found:
        assert each.boxes.shape == (len(each), 2 * dims)
        assert each.boxes.dtype == each.scores.dtype == torch.float32
        assert torch.isfinite(each.boxes).all()
        assert (each.boxes[:, dims:] > each.boxes[:, :dims]).all()
        assert (each.scores.diff() <= 0).all()
        assert ((each.scores >= 0) & (each.scores <= 1)).all()
        assert set(each.classes.tolist()) <= {1, 2}


@every_head
@both
def test_learns_to_find_the_object_and_to_stay_silent_without_one(name, dims):
    head = make(name, dims)
    conv = (nn.Conv2d, nn.Conv3d)[dims - 2]
    fine, coarse = conv(1, 8, 4, 4), conv(8, 8, 2, 2)
    images = torch.zeros(2, 1, *[SIDE] * dims)
    images[(0, 0, *[slice(*map(int, OBJECT))] * dims)] = 1
    targets = targets_of(dims, annotated(dims, [2]), annotated(dims, []))
    parameters = [*head.parameters(), *fine.parameters(), *coarse.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=1e-2)

    def pyramid():
        first = torch.relu(fine(images))
        return first, coarse(first)

    for _ in range(200 if name == "global_box" else 80):  # one linear layer behind a mean learns slowly
        loss = sum(head.loss(head(pyramid()), targets).values())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()
    with torch.no_grad():
        present, absent = head.eval().decode(head(pyramid())).detections
    assert present.classes[0] == 2
    assert overlap(present.boxes[0], targets.boxes[0][0]) > 0.5
    assert len(absent) == 0 or absent.scores[0] < present.scores[0] / 2


SIZES = (0.01, 0.4, 1.0, 3.0, 11.0)
"""Edges of objects, in voxels; cells are 4 and 8 wide, and the image 16."""


@pytest.mark.parametrize("name", [n for n in HEADS if n not in ("rcnn", "fast_rcnn")])  # true boxes join their regions
@both
def test_every_object_trains_a_cell_however_small_and_wherever_it_lies(name, dims):
    head = make(name, dims)
    if name == "yolox":
        head.box_criterion = BoxIoU("giou")  # of boxes apart, IoU has no gradient
    outputs = head(features(dims, images=1))
    draw = np.random.default_rng(0)
    for trial in range(12):
        size = draw.choice(SIZES, dims)
        low = [0.0, SIDE - 1.0, 8.0][trial] - size / 2 if trial < 3 else draw.uniform(0, SIDE, dims)
        low = np.clip(low, 0, SIDE - size)
        first = np.concatenate([low, low + size]).astype(np.float32)
        boxes = torch.from_numpy(np.stack([first, first + 0.001 * (trial % 2)])).requires_grad_()
        targets = targets_of(dims, annotated(dims, [1, 2]))
        targets.boxes[0] = boxes
        losses = head.loss(outputs, targets)
        (gradient,) = torch.autograd.grad(sum(losses.values()), boxes, retain_graph=True)
        assert torch.isfinite(gradient).all()
        # only what a cell is trained towards has a gradient
        assert (gradient.abs().sum(dim=1) > 0).all(), (size, low)


SUPPRESSING = [name for name in HEADS if name not in ("global_box", "centernet")]
LITTLE = 0.05
"""IoU above which boxes are duplicates: cells of neighbouring levels overlap by an eighth in 3-D."""


WAYS = {
    "nms": lambda iou: 0.0 if iou > LITTLE else 1.0,
    "linear": lambda iou: 1 - iou if iou > LITTLE else 1.0,
    "gaussian": lambda iou: np.exp(-(iou**2) / 0.5),
}
"""What a better box leaves of the score of one that it overlaps (Bodla et al. 2017, sigma 0.5)."""


def left_over(boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray, way: str) -> np.ndarray:
    """Scores that remain, falling: a plain loop over the best box left."""
    dims, scores, done = boxes.shape[1] // 2, scores.astype(np.float64), []
    alive = scores > 0
    while alive.any():
        at = np.where(alive, scores, -1).argmax()
        done.append(scores[at])
        alive[at] = False
        for other in np.flatnonzero(alive & (classes == classes[at])):
            a, b = boxes[at].astype(np.float64), boxes[other].astype(np.float64)
            common = np.clip(np.minimum(a[dims:], b[dims:]) - np.maximum(a[:dims], b[:dims]), 0, None).prod()
            iou = common / ((a[dims:] - a[:dims]).prod() + (b[dims:] - b[:dims]).prod() - common)
            scores[other] *= WAYS[way](iou)
        alive &= scores > 0
    return np.array(done)


EVERYTHING = {"score": 0.0, "pre_nms_topk": 20, "limit": 1000}


@torch.no_grad()
def detected(name: str, dims: int, suppression: Suppression) -> Detections:
    """Detections of a new head in one image."""
    head, args = HEADS[name]
    sizes = {"proposal_sizes": [[8.0] * dims]} if name in ("rcnn", "fast_rcnn") else {}
    torch.manual_seed(0)
    made = head(levels_of(dims), ["a", "b"], **args, **sizes, suppression=suppression).eval()
    if name == "yolo":  # its first scores are zero
        made.out.bias += 0.5
    return made.decode(made(features(dims, images=1))).detections[0]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", SUPPRESSING)
@both
def test_a_head_suppresses_as_chosen(name, dims, way):
    chosen = NMS(LITTLE, **EVERYTHING) if way == "nms" else SoftNMS(way, iou=LITTLE, **EVERYTHING)
    plain, left = detected(name, dims, NMS(iou=1.0, **EVERYTHING)), detected(name, dims, chosen)
    expected = left_over(plain.boxes.numpy(), plain.scores.numpy(), plain.classes.numpy(), way)
    assert (len(left) < len(plain)) == (way == "nms")
    np.testing.assert_allclose(left.scores, expected, atol=1e-5)


@pytest.mark.parametrize("name", SUPPRESSING)
@both
def test_a_head_compares_the_best_candidates_only_and_clusters(name, dims):
    plain = detected(name, dims, NMS(iou=1.0, **EVERYTHING))
    few = detected(name, dims, NMS(iou=1.0, score=0.0, pre_nms_topk=2, limit=1000))
    assert 2 <= len(few) <= 2 * len(levels_of(dims)) < len(plain)
    assert few.scores[0] == plain.scores[0]
    clustered = detected(name, dims, WeightedBoxClustering(LITTLE, **EVERYTHING))
    assert 0 < len(clustered) < len(plain)
    assert clustered.scores[0] <= plain.scores[0]
    lo, hi = plain.boxes[:, :dims].amin(dim=0), plain.boxes[:, dims:].amax(dim=0)
    assert (clustered.boxes[:, :dims] >= lo - 1e-4).all()
    assert (clustered.boxes[:, dims:] <= hi + 1e-4).all()


def test_the_default_suppression_of_every_head_is_that_of_its_paper():
    arguments = {name: catalogue.arguments(card) for name, card in catalogue.cards("head").items()}
    defaults = {name: a.default for name, every in arguments.items() for a in every if a.component == "suppression"}
    assert {name.split(",")[0] for name in SUPPRESSING} == set(defaults)
    assert all(default["type"] == "nms" for default in defaults.values())
    assert {name: default["iou"] for name, default in defaults.items() if "iou" in default} == {
        **{"fcos": 0.6, "yolox": 0.65, "rcnn": 0.3}
    }


@every_head
@both
def test_a_class_that_nobody_looked_for_is_not_taught_to_be_absent(name, dims):
    """One object of class a is given; nothing may push down the score of class b, nor that of any object elsewhere."""
    head, pyramid = make(name, dims), features(dims, images=1)
    given = replace(annotated(dims, [1]), boxes_known=np.array([True, False]))
    losses = head.loss(head(pyramid), targets_of(dims, given))
    sum(losses.values()).backward()
    if name == "yolo":
        assert losses["empty"] == 0
        assert head.out.bias.grad[-1] == 0  # the last channel is the score of class b
        return
    if "rcnn" in name:
        background, known, unknown = (head.detector if name in PROPOSING else head).score.bias.grad
        assert background * unknown > 0  # "background or b" is one answer
        assert known * unknown < 0
        return
    last = {"centernet": "heat", "global_box": "linear"}.get(name, "score")
    (bias,) = [p for n, p in head.named_parameters() if n.startswith(last) and n.endswith("bias")]
    scores = bias.grad.view(2, -1)[:, 0] if name == "global_box" else bias.grad
    assert not scores[1::2].any()
    assert scores[::2].all()
    assert name != "yolox" or head.objectness.bias.grad < 0  # only the matched cells, which hold an object
