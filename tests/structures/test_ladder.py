"""The supervision ladder, end to end: one recipe, one batch, and every case teaches exactly what it knows.

The batch holds a case with a mask, one with boxes, one with a coarse region, one with only a label, and one that nobody
annotated. Attention, detector and U-Net share a backbone and a neck.
"""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
import torch
from torch import Tensor

from cphloc.data.pipeline.phantom import Scene, draw_phantom
from cphloc.data.pipeline.pipeline import Pipeline
from cphloc.modeling.build import build, build_model
from cphloc.modeling.model import Model
from cphloc.ops.targets import Targets
from cphloc.recipe.recipe import load
from cphloc.structures.annotation import Annotation, Rung
from cphloc.training.optim import build_optimizer

SIZES = {2: (32, 32), 3: (16, 16, 16)}
SMALL = {"model.backbone.widths": [4, 8, 8], "model.neck.channels": 8, "model.heads.boxes.channels": 8}

MASK, BOXES, REGION, LABEL, NOTHING = range(5)
LEARNS_FROM = {"finding": [MASK, BOXES, REGION, LABEL], "boxes": [MASK, BOXES], "mask": [MASK]}
"""The cases of the batch that each head learns from."""

both = pytest.mark.parametrize("dims", [2, 3])
every_head = pytest.mark.parametrize("head", LEARNS_FROM)


def model_of(dims: int) -> Model:
    torch.manual_seed(0)
    return build(f"systems/multitask{dims}d-phantom", SMALL)


def batch(dims: int) -> tuple[Tensor, list[Annotation]]:
    """Images ``(5, 1, *S)``, and what is known about each."""
    scene = Scene(SIZES[dims], (1.0,) * dims, objects=(1, 1), diameter_mm=(5.0, 7.0), distractors=(0, 0))
    drawn = [draw_phantom(scene, positive=True, seed=seed) for seed in range(5)]
    images = torch.stack([torch.from_numpy(each.image.astype(np.float32)) for each in drawn])[:, None]
    known = Annotation(mask=drawn[BOXES].mask).completed(scene.size, classes=1)
    present = np.ones(1, np.float32)
    annotations = [
        Annotation(mask=drawn[MASK].mask),
        Annotation(boxes=known.boxes, box_classes=known.box_classes),
        Annotation(region=drawn[REGION].region.astype(np.float32), label=present),
        Annotation(label=present),
        Annotation(),
    ]
    return (images - images.mean()) / images.std(), annotations


def losses(model: Model, images: Tensor, annotations: list[Annotation]) -> dict[str, Tensor]:
    targets = Targets.collate(annotations, tuple(images.shape[2:]), classes=1)
    return model.loss(model.outputs(images), targets)


def of_head(found: dict[str, Tensor], head: str) -> Tensor:
    return sum(value for name, value in found.items() if name.startswith(f"{head}/"))


def gradients(loss: Tensor, model: Model) -> dict[str, Tensor]:
    named = dict(model.named_parameters())
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    return {name: torch.zeros_like(p) if g is None else g for (name, p), g in zip(named.items(), found, strict=True)}


@every_head
@both
def test_a_case_below_a_heads_rung_gives_it_exactly_no_gradient(head, dims):
    images, annotations = batch(dims)
    images.requires_grad_()
    loss = of_head(losses(model_of(dims), images, annotations), head)
    (gradient,) = torch.autograd.grad(loss, images)
    teaching = gradient.flatten(1).abs().sum(1) > 0
    assert teaching.nonzero()[:, 0].tolist() == LEARNS_FROM[head]


@every_head
@both
def test_a_heads_gradient_is_that_of_the_cases_that_have_its_rung(head, dims):
    model, (images, annotations) = model_of(dims).double(), batch(dims)
    images = images.double()  # single precision rounds differently in batches of different sizes
    mixed = losses(model, images, annotations)
    rows = LEARNS_FROM[head]
    alone = losses(model, images[rows], [annotations[row] for row in rows])
    expected, got = (gradients(of_head(found, head), model) for found in (alone, mixed))
    assert any(g.any() for g in expected.values())
    for name, gradient in got.items():
        torch.testing.assert_close(gradient, expected[name], atol=1e-7, rtol=1e-5)


@both
def test_the_three_train_together(dims):
    model, (images, annotations) = model_of(dims), batch(dims)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    course = []
    for _ in range(25):
        found = losses(model, images, annotations)
        assert all(value.isfinite() for value in found.values())
        optimizer.zero_grad()
        found["loss"].backward()
        optimizer.step()
        course.append({head: of_head(found, head).item() for head in LEARNS_FROM})
    for head in LEARNS_FROM:
        assert course[-1][head] < 0.8 * course[0][head], (head, course[0][head], course[-1][head])


@both
def test_one_recipe_trains_the_three_on_a_data_set_of_masks_boxes_regions_and_labels(dims):
    size = [32] * dims if dims == 2 else [8, 32, 32]
    scene = {"size": size, "patch": size, "objects": [1, 1], "diameter_mm": [6, 8], "workers": 0}
    scene |= {"positive": 0.7, "annotated": {"region": 0.8, "boxes": 0.5, "mask": 0.25}}
    data = {f"data.{key}": value for key, value in scene.items()} | {"data.cases": {"train": 24, "val": 0, "test": 0}}
    recipe = load(f"systems/multitask{dims}d-phantom", {**SMALL, **data})
    torch.manual_seed(0)
    pipeline, model = Pipeline.from_recipe(recipe), build_model(recipe)
    rungs = [case.annotation.rung for case in pipeline.cases("train")]
    assert [rungs.count(rung) for rung in Rung] == [4, 8, 6, 6]
    optimizer = build_optimizer(model, "AdamW", lr=3e-3)
    course = []
    for batch in islice(pipeline.batches(8), 40):
        found = model.loss(model.outputs(batch.image), batch.targets)
        optimizer.zero_grad()
        found["loss"].backward()
        optimizer.step()
        course.append([of_head(found, head).item() for head in LEARNS_FROM])
    first, last = np.mean(course[:8], axis=0), np.mean(course[-8:], axis=0)
    assert (last < 0.9 * first).all(), dict(zip(LEARNS_FROM, zip(first, last, strict=True), strict=True))


@both
def test_a_batch_that_nobody_annotated_gives_every_parameter_a_gradient_of_zero(dims):
    """Processes that train together wait for every gradient, so none may be missing."""
    model, (images, _) = model_of(dims), batch(dims)
    loss = losses(model, images[:2], [Annotation(), Annotation()])["loss"]
    assert loss.item() == 0
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert not parameter.grad.any(), name
