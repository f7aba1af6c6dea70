from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from cphloc.components.loss.boundary import Boundary, signed_distance
from cphloc.components.loss.dice import Dice
from cphloc.modeling.build import build
from cphloc.ops.targets import Targets
from cphloc.structures.annotation import Annotation
from cphloc.training.fit import Validation, fit
from cphloc.training.optim import set_progress
from cphloc.training.settings import Settings


def logits_of(mask: torch.Tensor) -> torch.Tensor:
    return 60 * torch.nn.functional.one_hot(mask, 2).movedim(-1, 1).float() - 30


def test_smallest_over_all_binary_predictions_is_the_truth_itself():
    truth = torch.tensor([[[0, 1, 1], [0, 1, 0], [0, 0, 0]]])
    distance = signed_distance(truth[:, None].float())[0, 0]
    pure = Boundary(boundary_weight=1.0, dice_weight=0.0)
    values = {
        bits: pure(logits_of(torch.tensor(bits).view(1, 3, 3)), truth).item()
        for bits in itertools.product((0, 1), repeat=9)
    }
    best = min(values, key=values.get)
    assert best == tuple(truth.flatten().tolist())
    assert values[best] == pytest.approx(distance[truth[0] == 1].sum().item() / 9, abs=1e-5)


@pytest.mark.parametrize("spacing", [(2.0, 1.0), (3.0, 2.0, 1.0)])
def test_distance_is_in_millimetres_along_each_axis(spacing):
    dims = len(spacing)
    truth = torch.zeros(1, 1, *(5,) * dims)
    truth[(0, 0, *(2,) * dims)] = 1
    distance = signed_distance(truth, spacing)[0, 0]
    for axis, size in enumerate(spacing):
        index = [2] * dims
        index[axis] = 4
        assert distance[tuple(index)] == 2 * size
    assert distance[(2,) * dims] == -min(spacing)


@pytest.mark.parametrize("value", [0, 1])
@pytest.mark.parametrize("size", [(4, 4), (3, 4, 4)])
def test_class_without_a_surface_adds_nothing(value, size):
    torch.manual_seed(0)
    target = torch.full((1, *size), value)
    logits = torch.randn(1, 2, *size)
    assert_close(Boundary(boundary_weight=1.0)(logits, target), Dice()(logits, target))


def test_farther_mistakes_cost_more():
    truth = torch.zeros(1, 1, 9, dtype=torch.long)
    truth[..., :2] = 1
    near, far = truth.clone(), truth.clone()
    near[..., 2], far[..., 8] = 1, 1
    loss = Boundary(boundary_weight=1.0)
    assert loss(logits_of(truth), truth) < loss(logits_of(near), truth) < loss(logits_of(far), truth)


def test_voxels_without_annotation_do_not_count():
    truth = torch.tensor([[[0, 1, 1, 0, 255, 255]]])
    logits = torch.randn(1, 2, 1, 6, requires_grad=True)
    Boundary(boundary_weight=1.0)(logits, truth).backward()
    assert logits.grad[..., 4:].abs().max() == 0
    assert logits.grad[..., :4].abs().min() > 0


@pytest.mark.parametrize(("schedule", "dice_at_the_end"), [("rebalance", 0.0), ("increase", 1.0), ("constant", 1.0)])
def test_weights_move_over_the_training_as_the_recipe_says(schedule, dice_at_the_end):
    loss = Boundary(boundary_weight=0.01, schedule=schedule)
    assert loss.weights() == (1.0, 0.01)
    shares = []
    for progress in (0.0, 0.5, 1.0):
        set_progress(torch.nn.ModuleDict({"head": torch.nn.Sequential(loss)}), progress)
        shares.append(loss.weights())
    assert shares[-1] == (dice_at_the_end, pytest.approx(0.01 if schedule == "constant" else 1.0))
    assert shares[1] == pytest.approx([(a + b) / 2 for a, b in zip(shares[0], shares[2], strict=True)])


def test_at_the_end_of_a_rebalanced_training_only_the_boundary_counts():
    logits, truth = torch.randn(1, 2, 6, 6), (torch.rand(1, 6, 6) > 0.5).long()
    loss = Boundary(schedule="rebalance")
    loss.progress = 1.0
    assert_close(loss(logits, truth), Boundary(boundary_weight=1.0, dice_weight=0.0)(logits, truth))


@dataclass
class Batch:
    image: torch.Tensor
    targets: Targets


def discs(dims, seed, cases=4):
    """Noisy images of a bright ball each, and their masks."""
    size, rng = {2: 24, 3: 12}[dims], np.random.default_rng(seed)
    grid = np.indices((size,) * dims)
    masks = [
        sum((axis - rng.uniform(0.35, 0.65) * size) ** 2 for axis in grid) <= (size / 4) ** 2 for _ in range(cases)
    ]
    images = np.stack([mask + rng.normal(0, 0.3, mask.shape) for mask in masks]).astype(np.float32)
    annotations = [Annotation(mask=mask.astype(np.uint8)) for mask in masks]
    return Batch(torch.from_numpy(images)[:, None], Targets.collate(annotations, (size,) * dims, classes=1))


@pytest.mark.parametrize("dims", [2, 3])
def test_a_training_goes_over_from_dice_to_the_boundary_and_learns_the_mask(dims, tmp_path):
    torch.manual_seed(0)
    small = {"data.size": [16] * dims, "data.patch": [16] * dims, "model.backbone.widths": [4, 8]}
    small |= {"model.neck.channels": 8, "model.heads.mask.channels": 8, "model.heads.mask.loss.schedule": "rebalance"}
    model, steps, course = build("systems/boundary", {"dims": dims, **small}), 60, []
    criterion = model.heads["mask"].criterion

    def record(loss, *_):
        if loss is criterion:  # not its copy in the model whose steps are timed
            course.append(loss.weights())

    criterion.register_forward_hook(record)

    def batches(first, rank, ranks):
        return (discs(dims, seed) for seed in itertools.count(first))

    def validate(model):
        batch = discs(dims, seed=10_000, cases=8)
        with torch.no_grad():
            found = model.decode(model.outputs(batch.image), batch.image.shape[2:])["mask"].mask_probabilities.argmax(1)
        common = (found * batch.targets.masks).sum().item()
        return Validation({"dice": 2 * common / (found.sum() + batch.targets.masks.sum()).item()})

    settings = Settings(steps, {"type": "AdamW", "lr": 1e-2}, validate_every=steps, best="dice", precision="32")
    outcome = fit(model, batches, validate, settings, tmp_path)
    done = np.arange(steps) / steps
    np.testing.assert_allclose(course, np.stack([1 - done, 0.01 + 0.99 * done], axis=1))
    assert outcome.best["dice"] > 0.9
