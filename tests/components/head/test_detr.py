from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision
from scipy.optimize import linear_sum_assignment
from torch.testing import assert_close

from cphloc.components.backbone.conv_encoder import ConvEncoder
from cphloc.components.head.detr import DETR, DETROutput
from cphloc.errors import InputError
from cphloc.modeling.model import Model
from cphloc.ops.boxes import overlap
from cphloc.ops.targets import Targets
from cphloc.structures.annotation import Annotation
from cphloc.structures.levels import Level

SIZES = {2: (32, 32), 3: (8, 32, 32)}


def annotation(dims):
    """Two objects of two classes."""
    near, far = [1.0] * (dims - 2), [5.0] * (dims - 2)
    first, second = [*near, 4.0, 4.0, *far, 14.0, 12.0], [*near, 18.0, 16.0, *far, 28.0, 30.0]
    return Annotation(boxes=np.array([first, second]), box_classes=np.array([1, 2]))


@pytest.mark.parametrize("dims", [2, 3])
def test_learns_one_query_per_object_without_suppression(dims):
    torch.manual_seed(1)
    backbone = ConvEncoder(1, dims, widths=[16, 16], strides=[2, 2])
    settings = {"queries": 10, "channels": 16, "layers": 1, "attention_heads": 4, "points": 2, "score": 0.4}
    head = DETR(backbone.levels, ["a", "b"], **settings)
    model = Model(backbone, None, {"boxes": head})
    image = torch.zeros(1, 1, *SIZES[dims])
    case = annotation(dims)
    for box, value in zip(case.boxes.astype(int), (1.0, -1.0), strict=True):
        image[(0, 0, *(slice(a, b) for a, b in zip(box[:dims], box[dims:], strict=True)))] = value
    targets = Targets.collate([case], SIZES[dims], classes=2)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(250):
        optimizer.zero_grad()
        model.loss(model.outputs(image), targets)["loss"].backward()
        optimizer.step()
    with torch.no_grad():
        (found,) = model.eval().decode(model.outputs(image), SIZES[dims])["boxes"].detections
    order = found.classes.argsort()
    assert found.classes[order].tolist() == [1, 2]
    assert overlap(found.boxes[order], torch.from_numpy(case.boxes).float()).min() > 0.8


@pytest.mark.parametrize("dims", [2, 3])
def test_boxes_that_are_right_cost_nothing_and_unknown_classes_no_score(dims):
    case = annotation(dims)
    targets = Targets.collate([case, Annotation()], SIZES[dims], classes=2)
    head = DETR((Level(4, (4,) * dims),), ["a", "b"], queries=3, channels=8, layers=1)
    boxes = torch.cat([torch.from_numpy(case.boxes).float(), torch.zeros(1, 2 * dims)])
    scores = torch.tensor([[20.0, -20.0], [-20.0, 20.0], [-20.0, -20.0]])
    outputs = DETROutput((torch.stack([scores, torch.randn(3, 2)]),), (torch.stack([boxes, torch.rand(3, 2 * dims)]),))
    for value in head.loss(outputs, targets).values():
        assert_close(value, torch.zeros(()), atol=1e-5, rtol=0)


def test_channels_that_the_heads_cannot_share_are_refused():
    with pytest.raises(InputError, match="multiple of attention_heads"):
        DETR((Level(4, (4, 4)),), ["a"], channels=6, attention_heads=4)


def giou_of(a, b):
    """Generalized IoU of two boxes, numbers ``lo..., hi...``."""
    dims = len(a) // 2
    common, hull, volumes = 1.0, 1.0, [1.0, 1.0]
    for axis in range(dims):
        common *= max(0.0, min(a[axis + dims], b[axis + dims]) - max(a[axis], b[axis]))
        hull *= max(a[axis + dims], b[axis + dims]) - min(a[axis], b[axis])
        volumes = [v * (box[axis + dims] - box[axis]) for v, box in zip(volumes, (a, b), strict=True)]
    union = sum(volumes) - common
    return common / union - (hull - union) / hull


def shape_of(box, size):
    """Centre and size of a box in fractions of the image, one after the other."""
    dims = len(size)
    centre = [(box[k] + box[k + dims]) / 2 / size[k] for k in range(dims)]
    return centre + [(box[k + dims] - box[k]) / size[k] for k in range(dims)]


@pytest.mark.parametrize("dims", [2, 3])
def test_the_losses_are_those_of_the_matches_that_scipy_finds_in_costs_written_out(dims):
    """Two decoder layers, matched each for itself; costs 2 focal + 5 L1 - 2 GIoU of Zhu et al. 2021, pair by pair."""
    draw, size = np.random.default_rng(dims), (20, 40, 30)[-dims:]

    def boxes_of(count):
        low = draw.uniform(0, 0.6, (count, dims)) * size
        return np.concatenate([low, low + draw.uniform(0.05, 0.4, (count, dims)) * size], axis=1)

    counts = (4, 0, 7)
    cases = [Annotation(boxes=boxes_of(n), box_classes=draw.integers(1, 4, n)) for n in counts]
    targets = Targets.collate([*cases, Annotation()], size, classes=3)
    head = DETR((Level(4, (4,) * dims),), ["a", "b", "c"], 12, 8, 1, score_weight=0.5, box_weight=4.0, iou_weight=3.0)
    scores = [torch.from_numpy(draw.normal(-1, 2, (4, 12, 3))).float() for _ in range(2)]
    boxes = [torch.from_numpy(boxes_of(48).reshape(4, 12, -1)).float() for _ in range(2)]
    losses = head.loss(DETROutput(tuple(scores), tuple(boxes)), targets)
    expected = {"score": 0.0, "box": 0.0, "iou": 0.0}
    for logits, found in zip(scores, boxes, strict=True):
        for row, count in enumerate(counts):
            true, names = targets.boxes[row].tolist(), (targets.box_classes[row] - 1).tolist()
            cost, apart, giou = (np.zeros((12, count)) for _ in range(3))
            for q, box in enumerate(found[row].tolist()):
                p = 1 / (1 + np.exp(-logits[row, q].double().numpy()))
                for m, (other, name) in enumerate(zip(true, names, strict=True)):
                    present = 0.25 * (1 - p[name]) ** 2 * -np.log(p[name])
                    absent = 0.75 * p[name] ** 2 * -np.log(1 - p[name])
                    shapes = zip(shape_of(box, size), shape_of(other, size), strict=True)
                    apart[q, m], giou[q, m] = sum(abs(a - b) for a, b in shapes), giou_of(box, other)
                    cost[q, m] = 2 * (present - absent) + 4 * apart[q, m] - 3 * giou[q, m]
            query, target = linear_sum_assignment(cost)
            truth = torch.zeros(12, 3)
            truth[query, [names[m] for m in target]] = 1
            focal = torchvision.ops.sigmoid_focal_loss(logits[row], truth, 0.25, 2, reduction="sum")
            expected["score"] += 0.5 * focal.item() / sum(counts)
            expected["box"] += 4 * apart[query, target].sum() / sum(counts)
            expected["iou"] += 3 * (1 - giou[query, target]).sum() / sum(counts)
    assert {name: value.item() for name, value in losses.items()} == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_layer_is_the_attention_of_torch_then_that_to_the_maps_then_a_small_network(dims):
    """Places are added to what is compared and to what looks at the maps, not to the values."""
    torch.manual_seed(0)
    (layer,) = DETR((Level(8, (4,) * dims),), ["a"], channels=8, layers=1, attention_heads=2, points=2).layers
    for norm in layer.norms:
        torch.nn.init.normal_(norm.weight)
    queries, boxes, maps = torch.randn(2, 5, 8), torch.rand(2, 5, 2 * dims), [torch.randn(2, 8, *[6] * dims)]
    attention = torch.nn.MultiheadAttention(8, 2, batch_first=True)
    given = layer.query, layer.key, layer.value
    attention.in_proj_weight.data = torch.cat([x.weight.data for x in given])
    attention.in_proj_bias.data = torch.cat([x.bias.data for x in given])
    attention.out_proj.load_state_dict(layer.out.state_dict())
    place = layer.place(boxes)
    x = layer.norms[0](queries + attention(queries + place, queries + place, queries, need_weights=False)[0])
    x = layer.norms[1](x + layer.across(x + place, boxes, maps))
    assert_close(layer(queries, boxes, maps), layer.norms[2](x + layer.feed(x)))
