"""What a GPU computes equals what the CPU computes. Skipped on machines without a GPU."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close
from training.test_fit import batches_of, model_of

from cphloc.ops.boxes import overlap_matrix
from cphloc.ops.nms import nms
from cphloc.ops.roi_align import roi_align
from cphloc.ops.sliding_window import Blend, corners
from cphloc.training.fit import Validation, fit
from cphloc.training.settings import Settings, native_precision

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU on this machine"),
]


def boxes_of(count, dims):
    draw = torch.Generator().manual_seed(0)
    low = torch.rand(count, dims, generator=draw) * 12
    return torch.cat([low, low + 1 + torch.rand(count, dims, generator=draw) * 6], dim=1)


@pytest.mark.parametrize("dims", [2, 3])
def test_roi_align_and_its_gradient(dims):
    image = torch.randn(1, 8, *[16] * dims, generator=torch.Generator().manual_seed(0))
    results = []
    for device in ("cpu", "cuda"):
        features = image.to(device).requires_grad_()
        pooled = roi_align(features, [boxes_of(9, dims).to(device)], (1,) * dims, (3,) * dims)
        pooled.square().sum().backward()
        results.append((pooled.detach().cpu(), features.grad.cpu()))
    assert_close(results[1], results[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dims", [2, 3])
def test_overlap_and_suppression_of_boxes(dims):
    boxes, scores = boxes_of(200, dims), torch.rand(200, generator=torch.Generator().manual_seed(1))
    assert_close(overlap_matrix(boxes.cuda(), boxes.cuda()).cpu(), overlap_matrix(boxes, boxes))
    assert nms(boxes.cuda(), scores.cuda(), 0.3).tolist() == nms(boxes, scores, 0.3).tolist()


def test_blending_of_windows():
    size, patch = (12, 10, 9), (6, 6, 6)
    windows = [(c, torch.randn(3, *patch)) for c in corners(size, patch, 0.5)]
    means = []
    for device in ("cpu", "cuda"):
        blend, rows = Blend(3, size, patch, torch.device(device)), []
        for corner, values in windows:
            rows += [mean.cpu().clone() for _, mean, _ in blend.rows(corner[0])]
            blend.add(corner, values.to(device))
        means.append(torch.cat([*rows, *(mean.cpu().clone() for _, mean, _ in blend.rows(size[0]))], dim=1))
    assert_close(means[1], means[0])


@pytest.mark.parametrize("dims", [2, 3])
def test_a_training_in_its_native_precision_lowers_the_loss(dims, tmp_path):
    assert native_precision() in ("bf16-mixed", "16-mixed")
    seen = []
    settings = Settings(steps=60, validate_every=20, best="loss", optimizer={"type": "SGD", "lr": 0.1})
    fit(model_of(dims), batches_of(dims), held_out_on_gpu(dims), settings, tmp_path, log=lambda m, s: seen.append(m))
    losses = [m["val/loss"] for m in seen if "val/loss" in m]
    assert losses[-1] < losses[0]


def held_out_on_gpu(dims):
    """Loss of a batch that is not trained on."""
    batch = next(iter(batches_of(dims, seed=99)(0, 0, 1)))
    image, targets = batch.image.cuda(), batch.targets.to("cuda", False)

    def validate(model):
        with torch.no_grad():
            return Validation({"loss": float(model.loss(model.outputs(image), targets)["loss"])})

    return validate
