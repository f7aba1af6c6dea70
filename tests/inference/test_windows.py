import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from benchmarks.blend import sliding_window
from torch import nn

from cphloc.inference.windows import AirThreshold, _Merge, infer
from cphloc.modeling.model import Model
from cphloc.ops.sliding_window import gaussian_weight
from cphloc.ops.targets import Detections, Prediction
from cphloc.structures.levels import Level

SIZES = {2: (20, 26), 3: (12, 20, 15)}
PATCH = {2: (8, 8), 3: (8, 8, 8)}


class Pixels(nn.Module):
    """A backbone that gives the image itself."""

    def __init__(self, dims):
        super().__init__()
        self.levels = (Level(1, (1,) * dims),)
        self.one = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return (x * self.one,)


class Everything(nn.Module):
    """A head whose answers follow from the window alone: bright is class 1, and one box around the bright voxels."""

    classes: ClassVar = {1: "bright"}

    def forward(self, pyramid):
        return pyramid[0]

    def decode(self, outputs):
        bright = outputs[:, 0]
        found = []
        for image in bright:
            where = (image > 0.5).nonzero().float()
            boxes = (
                torch.cat([where.amin(0), where.amax(0) + 1])[None] if len(where) else torch.zeros(0, 2 * image.dim())
            )
            masks = torch.zeros(len(boxes), *(4,) * image.dim())
            if len(boxes):
                low, high = boxes[0].long().tensor_split(2)
                part = image[tuple(map(slice, low.tolist(), high.tolist()))]
                masks[0] = nn.functional.interpolate((part > 0.5).float()[None, None], masks.shape[1:])[0, 0]
            classes = torch.ones(len(boxes), dtype=torch.long)
            found.append(Detections(boxes, torch.full((len(boxes),), 0.9), classes, masks))
        weight = bright.clamp(min=1e-6)
        return Prediction(
            mask_probabilities=torch.stack([1 - bright.sigmoid(), bright.sigmoid()], 1),
            detections=found,
            attention=weight / weight.sum(dim=tuple(range(1, weight.dim())), keepdim=True),
            label_probabilities=bright.flatten(1).amax(1, keepdim=True).clamp(0, 1),
            extra={"risk": bright.flatten(1).amax(1, keepdim=True)},
        )


def model(dims):
    return Model(Pixels(dims), None, {"all": Everything()}).eval()


def spot(dims):
    image = torch.zeros(1, 1, *SIZES[dims])
    image[(0, 0, *(slice(5, 7),) * dims)] = 1
    return image


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("mirror", [False, True])
def test_windows_and_mirrors_agree_with_the_whole_image_at_once(dims, mirror):
    image = spot(dims)
    whole = infer(model(dims), image)["all"]
    windows = infer(model(dims), image, PATCH[dims], mirror=range(dims) if mirror else ())["all"]
    assert torch.allclose(windows.mask_probabilities, whole.mask_probabilities, atol=1e-5)
    assert windows.mask_probabilities.shape == (1, 2, *SIZES[dims])
    assert torch.allclose(windows.label_probabilities, whole.label_probabilities)
    assert torch.equal(windows.extra["risk"], whole.extra["risk"])


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("mirror", [False, True])
def test_boxes_of_overlapping_windows_are_one_object_in_image_coordinates(dims, mirror):
    found = infer(model(dims), spot(dims), PATCH[dims], mirror=range(dims) if mirror else ())["all"].detections[0]
    best = found.boxes[found.scores.argmax()]
    assert torch.allclose(best, torch.tensor([5.0] * dims + [7.0] * dims), atol=1e-4)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("mirror", [False, True])
def test_masks_in_boxes_are_those_of_the_whole_image(dims, mirror):
    """An object of which one corner is missing, in every view in its own place."""
    image = torch.zeros(1, 1, *SIZES[dims])
    image[(0, 0, *(slice(4, 8),) * dims)] = 1
    image[(0, 0, *(slice(4, 6),) * dims)] = 0
    axes = range(dims) if mirror else ()
    for patch in (None, tuple(16 if n == 20 else n for n in SIZES[dims])):  # windows at 0 and 4 hold it whole
        (found,) = infer(model(dims), image, patch, mirror=axes)["all"].detections
        expected = image[(0, 0, *(slice(4, 8),) * dims)]
        assert torch.allclose(found.boxes, torch.tensor([[4.0] * dims + [8.0] * dims]))
        assert torch.allclose(found.masks[0], expected, atol=1e-5)


@pytest.mark.parametrize("dims", [2, 3])
def test_boxes_of_mirrored_images_are_mirrored_back(dims):
    """One object off the centre along every axis: where a view is not mirrored back, there are two."""
    image = torch.zeros(1, 1, *(16,) * dims)
    image[(0, 0, *(slice(1 + axis, 5) for axis in range(dims)))] = 1
    found = infer(model(dims), image, mirror=range(dims))["all"].detections[0]
    expected = torch.tensor([[1.0 + axis for axis in range(dims)] + [5.0] * dims])
    assert torch.allclose(found.boxes, expected, atol=1e-4)
    assert torch.allclose(found.scores, torch.tensor([0.9]), atol=1e-4)


class Sides(nn.Module):
    """A head that calls bright voxels class 1 in the first half of the last axis and class 2 in the second."""

    classes: ClassVar = {1: "left", 2: "right"}

    def forward(self, pyramid):
        return pyramid[0]

    def decode(self, outputs):
        bright, half = outputs[:, 0] > 0.5, outputs.shape[-1] // 2
        first = torch.arange(outputs.shape[-1]) < half
        masks = torch.stack([~bright, bright & first, bright & ~first], 1).float()
        labels = masks.flatten(2).amax(2)[:, 1:]
        found = []
        for mask in masks:
            classes = torch.tensor([c for c in (1, 2) if mask[c].any()], dtype=torch.long)
            where = [mask[c].nonzero().float() for c in classes]
            boxes = torch.stack([torch.cat([w.amin(0), w.amax(0) + 1]) for w in where])
            found.append(Detections(boxes, torch.full((len(boxes),), 0.9), classes))
        return Prediction(mask_probabilities=masks, detections=found, label_probabilities=labels)


@pytest.mark.parametrize("dims", [2, 3])
def test_left_and_right_change_places_in_views_that_are_mirrored_along_the_last_axis(dims):
    image = torch.zeros(1, 1, *(16,) * dims)
    image[(0, 0, *(slice(1, 5),) * dims)] = 1
    network = Model(Pixels(dims), None, {"all": Sides()}).eval()
    plain = infer(network, image)["all"]
    views = infer(network, image, mirror=range(dims), swap={1: 2, 2: 1})["all"]
    assert torch.equal(views.mask_probabilities.argmax(1), plain.mask_probabilities.argmax(1))
    assert views.mask_probabilities[0, 1].max() > 0.99
    assert torch.allclose(views.label_probabilities, plain.label_probabilities)
    assert views.detections[0].classes.tolist() == [1]
    mixed = infer(network, image, mirror=range(dims))["all"]
    assert not torch.allclose(mixed.label_probabilities, plain.label_probabilities)


@pytest.mark.parametrize("dims", [2, 3])
def test_attention_sums_to_one_and_points_at_the_spot(dims):
    attention = infer(model(dims), spot(dims), PATCH[dims])["all"].attention[0]
    assert attention.shape == SIZES[dims]
    assert attention.sum().item() == pytest.approx(1, abs=1e-5)
    assert all(i in (5, 6) for i in np.unravel_index(attention.argmax(), attention.shape))


@pytest.mark.parametrize("dims", [2, 3])
def test_an_image_smaller_than_the_patch_comes_back_in_its_own_size(dims):
    image = torch.rand(1, 1, *(5,) * dims)
    found = infer(model(dims), image, (16,) * dims)["all"]
    assert found.mask_probabilities.shape[2:] == (5,) * dims
    assert found.attention.shape[1:] == (5,) * dims


def test_averaging_windows_is_averaging_logits():
    class Position(Everything):
        """Logits that depend on where a voxel lies in the window, so that windows disagree."""

        def decode(self, outputs):
            ramp = torch.linspace(-3, 3, outputs.shape[-1]).expand_as(outputs[:, 0])
            return Prediction(mask_probabilities=torch.stack([-ramp, ramp], 1).softmax(1))

    image = torch.zeros(1, 1, 16, 24)
    found = infer(Model(Pixels(2), None, {"p": Position()}).eval(), image, (16, 16))["p"].mask_probabilities
    ramp = torch.linspace(-3, 3, 16)
    logits = sliding_window(lambda w: torch.stack([-ramp.expand(16, 16), ramp.expand(16, 16)])[None], image, (16, 16))
    assert torch.allclose(found, logits.softmax(1), atol=1e-5)


def body(dims):
    """Air of -1, and a bright object in a body of 0.2 that does not reach the border."""
    image = torch.full((1, 1, *SIZES[dims]), -1.0)
    image[(0, 0, *(slice(2, 9),) * dims)] = 0.2
    image[(0, 0, *(slice(4, 7),) * dims)] = 1
    return image


class Counted:
    def __init__(self, network):
        self.network, self.windows = network, []

    def __call__(self, window):
        self.windows.append(window)
        return self.network.outputs(window)


@pytest.mark.parametrize("dims", [2, 3])
def test_where_there_is_air_nothing_is_computed_and_all_is_background(dims):
    image, network = body(dims), model(dims)
    every, some = Counted(network), Counted(network)
    whole = infer(network, image, PATCH[dims], forward=every)["all"]
    found = infer(network, image, PATCH[dims], forward=some, air=AirThreshold(0, -0.9))["all"]
    assert len(some.windows) < len(every.windows)
    assert all((window > -0.9).any() for window in some.windows)
    inside = (image > -0.9)[0, 0]
    assert torch.allclose(found.mask_probabilities[..., inside], whole.mask_probabilities[..., inside], atol=1e-5)
    assert torch.equal(found.mask_probabilities.argmax(1), whole.mask_probabilities.argmax(1))
    assert torch.allclose(found.mask_probabilities.sum(1), torch.ones(1, *SIZES[dims]), atol=1e-5)
    assert torch.allclose(found.detections[0].boxes[0], whole.detections[0].boxes[0], atol=1e-4)
    assert torch.equal(found.label_probabilities, whole.label_probabilities)


def test_the_box_of_the_body_is_as_tight_as_the_window_allows():
    slab = torch.full((1, 2, 3, 12, 20), -1.0)
    slab[0, 1, 1, 2:9, 4] = 0
    slab[0, 1, 2, 5, 4:15] = 0
    air = AirThreshold(1, -0.9)
    assert air.body_box(slab, (4, 4)) == [(2, 9), (4, 15)]
    assert air.body_box(slab, (10, 20)) == [(0, 10), (0, 20)]
    assert air.body_box(slab[:, :, :, 5], (4,)) == [(4, 15)]
    assert AirThreshold(0, -0.9).body_box(slab, (4, 4)) == []


@pytest.mark.parametrize("dims", [2, 3])
def test_a_box_weighs_by_its_place_in_its_window_and_by_the_windows_that_could_find_it(dims):
    patch, still = (8,) * dims, (0,) * (dims - 1)
    merge = _Merge((20,) * dims, (20,) * dims, patch, corners=[(0, *still), (8, *still), (4, *still)], views=2)
    low, high = [torch.tensor([[n, *still] for n in ends]).float() for ends in ([3, 5, -4, 9], [5, 7, 2, 11])]
    boxes = torch.cat([low, high + torch.tensor([0, *(6,) * (dims - 1)])], dim=1)
    weight = gaussian_weight(patch)
    assert torch.equal(
        merge._centre_weight(boxes), torch.stack([weight[(n, *(3,) * (dims - 1))] for n in (4, 6, 0, 7)])
    )
    assert merge._covering(boxes).tolist() == [2 * 2, 2 * 2, 0, 2 * 2], "centres 4, 6, -1 and 10"


@pytest.mark.parametrize("dims", [2, 3])
def test_an_image_of_air_alone_is_computed(dims):
    image = torch.full((1, 1, *SIZES[dims]), -1.0)
    assert torch.equal(
        infer(model(dims), image, PATCH[dims], air=AirThreshold(0, -0.9))["all"].mask_probabilities,
        infer(model(dims), image, PATCH[dims])["all"].mask_probabilities,
    )


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("air", [None, AirThreshold(0, -0.9)])
def test_rows_are_handed_on_once_each_in_order_and_are_the_mask(dims, air):
    image, rows = body(dims), []
    infer(
        model(dims),
        image,
        PATCH[dims],
        air=air,
        on_mask_rows=lambda head, first, m: rows.append((head, first, m.clone())),
    )
    assert [first for _, first, _ in rows] == np.cumsum([0, *(m.shape[1] for _, _, m in rows[:-1])]).tolist()
    joined = torch.cat([m for _, _, m in rows], dim=1).softmax(dim=0)
    assert torch.allclose(joined, infer(model(dims), image, PATCH[dims], air=air)["all"].mask_probabilities[0])


PEAK = """
import sys, torch
from torch import nn
from cphloc.inference.windows import AirThreshold, infer
from cphloc.structures.levels import Level
from cphloc.modeling.model import Model
from cphloc.ops.targets import Prediction

class Same(nn.Module):
    levels = (Level(1, (1, 1, 1)),)
    def __init__(self):
        super().__init__()
        self.one = nn.Parameter(torch.ones(1))
    def forward(self, x):
        return (x * self.one,)

class Two(nn.Module):
    classes = {1: "bright"}
    def forward(self, pyramid):
        return pyramid[0]
    def decode(self, outputs):
        return Prediction(mask_probabilities=torch.cat([-outputs, outputs], 1).softmax(1))

class Deep:
    def __init__(self, depth):
        self.shape = (1, 1, depth, 256, 256)
    def __getitem__(self, key):
        first, stop, _ = key[2].indices(self.shape[2])
        return torch.full((1, 1, stop - first, 256, 256), 0.5)

rows = [0]
model = Model(Same(), None, {"mask": Two()}).eval()
take = lambda head, first, mask: rows.append(first + mask.shape[1])
infer(model, Deep(int(sys.argv[1])), (16, 128, 128), on_mask_rows=take)
assert rows[-1] == int(sys.argv[1])
print(int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 1024)
"""
"""What getrusage reports would start at the memory of the process that started this one."""


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="the peak of memory is read where Linux tells it")
def test_peak_memory_does_not_grow_with_the_number_of_slices():
    """The deeper image alone has 98 MB more, its two log-probabilities 197 MB more."""

    def peak_mb(depth):
        done = subprocess.run([sys.executable, "-c", PEAK, str(depth)], capture_output=True, text=True, check=True)
        return float(done.stdout)

    assert peak_mb(424) - peak_mb(32) < 40


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("batch", [2, 3, 100])
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("air", [None, AirThreshold(0, 0.0)])
def test_several_windows_at_once_give_the_result_of_one_at_a_time(dims, batch, streamed, air):
    """Of every part, with mirrored views, masks row by row, and windows of air left out."""
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 1, *SIZES[dims], generator=generator)
    image[..., : SIZES[dims][-1] // 2] *= 0
    model = Model(Pixels(dims), None, {"all": Everything()}).eval()
    sizes = []

    def forward(x):
        sizes.append(len(x))
        return model.outputs(x)

    def predicted(**how):
        rows = {}
        on_rows = (lambda head, first, part: rows.update({first: part.softmax(0).clone()})) if streamed else None
        arguments = {"mirror": (dims - 1,), "air": air, "on_mask_rows": on_rows, "forward": forward}
        found = infer(model, image, PATCH[dims], **arguments, **how)["all"]
        return found, torch.cat([rows[first] for first in sorted(rows)], 1) if streamed else found.mask_probabilities[0]

    (one, one_mask), (many, many_mask) = predicted(), predicted(window_batch=batch)
    assert max(sizes) > 1
    torch.testing.assert_close(many_mask, one_mask)
    torch.testing.assert_close(many.attention, one.attention)
    torch.testing.assert_close(many.label_probabilities, one.label_probabilities)
    torch.testing.assert_close(many.extra["risk"], one.extra["risk"])
    torch.testing.assert_close(many.detections[0].boxes, one.detections[0].boxes)
    torch.testing.assert_close(many.detections[0].scores, one.detections[0].scores)
