"""Every shipped recipe is right, and every system of the lecture trains, by one walk over the folder."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml

from cphloc.data.pipeline.phantom import Scene, draw_phantom
from cphloc.data.pipeline.pipeline import open_dataset
from cphloc.modeling.build import build_model, check
from cphloc.modeling.model import Model
from cphloc.ops.targets import Targets
from cphloc.recipe.merge import find, shipped_recipes
from cphloc.recipe.recipe import Recipe, load
from cphloc.registry import catalogue
from cphloc.structures.annotation import Annotation
from cphloc.training.optim import build_optimizer
from cphloc.zoo.starting import load_recipe

PIPELINES = [name for name, path in shipped_recipes().items() if "task: pipeline" in path.read_text()]
NETWORKS = [name for name in shipped_recipes() if name not in PIPELINES]
SYSTEMS = [name for name in shipped_recipes() if name.startswith("systems/")]

SHRUNK: dict[str, dict[str, object]] = {
    "systems/rcnn": {"model.heads.boxes.proposal_sizes": [[6, 16, 16]], "model.heads.boxes.samples": 8},
}
"""Overrides that make a system small enough for a test."""


def size_of(recipe: Recipe) -> tuple[int, ...]:
    """Image size of the test: that of a fully connected layer cannot be changed."""
    stated = recipe.model.backbone.args.get("size")
    return tuple(stated) if stated else {2: (64, 64), 3: (8, 32, 32)}[recipe.dims]


def phantoms(size: tuple[int, ...]) -> tuple[torch.Tensor, list[Annotation]]:
    """Two images with an object each; one case has its mask, the other only boxes."""
    spacing = (1.0,) * 2 if len(size) == 2 else (2.0, 1.0, 1.0)
    scene = Scene(size, spacing, objects=(1, 1), diameter_mm=(8.0, 10.0), distractors=(0, 1))
    drawn = [draw_phantom(scene, positive=True, seed=seed) for seed in (0, 1)]
    images = torch.stack([torch.from_numpy(each.image.astype(np.float32)) for each in drawn])[:, None]
    whole = Annotation(mask=drawn[1].mask).completed(size, classes=1)
    boxes = Annotation(boxes=whole.boxes, box_classes=whole.box_classes)
    return (images - images.mean()) / images.std(), [Annotation(mask=drawn[0].mask), boxes]


@pytest.mark.parametrize("name", PIPELINES)
def test_the_stages_of_a_shipped_pipeline_fit_each_other(name, monkeypatch):
    monkeypatch.setenv("CPHLOC_OFFLINE", "1")
    recipe = load_recipe(name)
    assert recipe.description
    assert all(stage.stored is not None for stage in recipe.stages.values())


@pytest.mark.parametrize("name", NETWORKS)
def test_a_shipped_recipe_is_right_down_to_the_shapes(name):
    recipe = load(name)
    assert recipe.description
    assert recipe.data.patch, "without a patch no shape is checked"
    assert check(recipe) == []


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_system_is_at_most_25_lines_and_needs_no_download(name):
    assert len(shipped_recipes()[name].read_text().splitlines()) <= 25
    assert load(name).data.type in ("phantom", "phantom_pair")


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_system_trains_two_steps_and_decodes(name):
    torch.manual_seed(0)
    recipe = load(name, SHRUNK.get(name))
    model, size = build_model(recipe), size_of(recipe)
    image, annotations = phantoms(size)
    image = image.repeat(1, len(recipe.channels), *[1] * recipe.dims)
    targets = replace(Targets.collate(annotations, size, classes=1), images=image)
    before = {key: value.clone() for key, value in model.named_parameters()}
    optimizer = recipe.train.optimizer
    optimizer = build_optimizer(model, optimizer.type, **{"lr": 1e-3, **optimizer.args})
    for _ in range(2):
        losses = model.loss(model.outputs(image), targets)
        assert all(value.isfinite() for value in losses.values()), losses
        optimizer.zero_grad()
        losses["loss"].backward()
        assert [key for key, p in model.named_parameters() if p.grad is None] == []
        optimizer.step()
    assert any(not torch.equal(before[key], p) for key, p in model.named_parameters())
    assert all(p.isfinite().all() for p in model.parameters())
    check_predictions(recipe, model, image, size)


@pytest.mark.parametrize("name", SYSTEMS)
def test_only_a_system_that_states_convolutions_has_more_than_two_of_them_a_stage(name):
    stated = (
        yaml.safe_load(shipped_recipes()[name].read_text()).get("model", {}).get("backbone", {}).get("convolutions")
    )
    assert load(name).model.backbone.args.get("convolutions", 2) == (stated or 2)


@pytest.mark.parametrize(
    ("name", "carried"),
    [
        ("attention", {"boxes", "label"}),
        ("attention-side", {"region", "label"}),
        ("gap", {"label"}),
        ("gmp", {"label"}),
        ("text-cnn", {"label"}),
        ("multi-attention", {"boxes", "region", "label"}),
        ("multitask3d-phantom", {"mask", "boxes", "region", "label"}),
    ],
)
def test_training_cases_carry_the_annotations_that_the_description_names(name, carried):
    recipe = load(f"systems/{name}")
    cases = open_dataset(recipe.data, recipe.dims).cases("train")
    assert {
        rung for case in cases for rung in ("mask", "boxes", "region", "label") if getattr(case.annotation, rung)
    } == carried


def check_predictions(recipe: Recipe, model: Model, image: torch.Tensor, size: tuple[int, ...]) -> None:
    model.eval()
    with torch.no_grad():
        predictions = model.decode(model.outputs(image), size)
    assert predictions.keys() == recipe.model.heads.keys()
    for name, found in predictions.items():
        gives = catalogue.card("head", recipe.model.heads[name].type).gives
        if "mask" in gives:
            assert found.mask_probabilities.shape == (2, 2, *size)
        if "boxes" in gives:
            assert [each.boxes.shape[1] for each in found.detections] == [2 * recipe.dims] * 2
        if "attention" in gives:
            torch.testing.assert_close(found.attention.flatten(1).sum(1), torch.ones(2))
        if "labels" in gives:
            assert found.label_probabilities.shape == (2, 1)


def test_a_recipe_in_a_folder_is_found_by_its_name_alone():
    stems = [path.stem for path in shipped_recipes().values()]
    assert len(set(stems)) == len(stems)
    assert find("retina") == find("systems/retina") == shipped_recipes()["systems/retina"]


def test_every_head_neck_and_backbone_of_ours_has_a_recipe():
    used = {kind: set() for kind in ("backbone", "neck", "head")}
    for name in NETWORKS:
        model = load(name).model
        used["backbone"].add(model.backbone.type)
        used["neck"] |= {model.neck.type} if model.neck else set()
        used["head"] |= {head.type for head in model.heads.values()}
    for_imported_weights = {"smp_unet", "monai_network", "monai_retinanet", "torchvision_detector"}
    assert used == {kind: set(catalogue.cards(kind)) - for_imported_weights for kind in used}


def test_the_3d_unet_differs_from_the_2d_one_in_its_data_its_steps_and_one_line():
    flat, deep = (load(f"systems/unet{dims}d-phantom").to_plain() for dims in (2, 3))
    differing = {key for key in flat if flat[key] != deep[key]}
    assert differing == {"name", "description", "dims", "data", "train"}
    assert {**flat["train"], "steps": deep["train"]["steps"]} == deep["train"]
