"""One network learns the probabilities of a teacher, or of the average of its own weights, beside the annotations."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from torch.nn import functional

from cphloc.data.pipeline.pipeline import Pipeline
from cphloc.errors import DataError, InputError
from cphloc.modeling.build import build_model
from cphloc.ops.targets import Targets
from cphloc.publishing.freeze import entry_recipe
from cphloc.recipe.recipe import load
from cphloc.structures.annotation import Annotation
from cphloc.training import checkpoint
from cphloc.training.cross_validation import cross_validate
from cphloc.training.distillation import Teacher, check_own_average, divergence, perturbed
from cphloc.training.train import train


def recipe(dims: int, **given) -> dict:
    size = [24, 24] if dims == 2 else [8, 24, 24]
    few = {"objects": [1, 1], "distractors": [0, 0], "diameter_mm": [4.0, 6.0], "voxel_mm": [1.0] * dims}
    data = {"type": "phantom", "size": size, "cases": {"train": 5, "val": 3, "test": 2}, "patch": size, "workers": 0}
    heads = {"mask": {"type": "unet", "classes": {1: "mass"}, "loss": {"type": "dice_ce"}}}
    return {
        **{"name": "student", "task": "segmentation", "dims": dims, "data": {**data, **few}},
        "model": {"backbone": {"type": "conv_encoder", "widths": [4, 8]}, "heads": heads},
        "train": {"steps": 2, "batch": 2, "validate_every": 2, "precision": "32", **given},
    }


def test_the_divergence_is_that_of_kullback_and_leibler():
    ours, theirs = (torch.randn(3, 4, 5, 6).softmax(1) for _ in range(2))
    expected = functional.kl_div(ours.log(), theirs, reduction="sum") / (3 * 5 * 6)
    assert divergence(ours, theirs) == pytest.approx(float(expected), rel=1e-4)
    assert divergence(ours, ours) == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_student_without_annotations_becomes_its_teacher(dims):
    made = load(recipe(dims))
    torch.manual_seed(1)
    taught = build_model(made).eval()
    torch.manual_seed(2)
    student = build_model(made)
    teacher, image = Teacher(taught, 1.0), torch.randn(2, 1, *made.data.patch)
    optimizer = torch.optim.Adam(student.parameters(), 1e-2)
    found = []
    for _ in range(30):
        (loss,) = teacher.losses(student, student.outputs(image), image)[0].values()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(float(loss.detach()))
    assert found[-1] < 0.5 * found[0]
    assert all(parameter.grad is None for parameter in taught.parameters())


@pytest.mark.parametrize("dims", [2, 3])
def test_the_own_average_teaches_only_what_is_not_annotated_and_where_it_is_sure(dims):
    made = load(recipe(dims))
    size = tuple(made.data.patch)
    torch.manual_seed(1)
    average = build_model(made).eval()
    torch.manual_seed(2)
    student = build_model(made)
    image = torch.randn(2, 1, *size)
    theirs = average.decode(average.outputs(image), size)["mask"].mask_probabilities.detach()
    sure = float(theirs.amax(1).median())
    teacher = Teacher(None, 1.0, sure)
    teacher.follow(student, average.state_dict())
    outputs = student.outputs(image)
    targets = Targets.collate([Annotation(mask=np.ones(size, np.int64)), Annotation()], size, 1)
    losses, shares = teacher.losses(student, outputs, image, targets)

    ours = student.decode(outputs, size)["mask"].mask_probabilities.detach()
    both = functional.nll_loss(ours.log(), theirs.argmax(1), reduction="none")[1]  # the second case has no mask
    taught = theirs[1].amax(0) >= sure
    assert 0 < int(taught.sum()) < taught.numel()
    assert losses["soft/mask"].item() == pytest.approx(float(both[taught].sum()) / (2 * both.numel()), rel=1e-4)
    assert float(shares["taught/mask"]) == pytest.approx(float(taught.sum()) / (2 * taught.numel()))


@pytest.mark.parametrize("dims", [2, 3])
def test_a_training_with_its_own_average_draws_cases_without_masks_after_a_while(dims, at_work, capfd):
    few = recipe(dims, teacher="self", teacher_sure=0.0, ema=0.9, steps=20, validate_every=20)
    few["data"] |= {"annotated": {"mask": 0.5}, "cases": {"train": 8, "val": 3, "test": 2}}
    run = train(few)
    said = capfd.readouterr().err
    assert "from 8 cases with or without annotation (for the teacher)" in said
    assert "teacher: the network's own average teaches cases without annotation after 30% of the training" in said
    logged = [json.loads(line) for line in (run.folder / "tracking.jsonl").read_text().splitlines()]
    metrics = {line["step"]: line["values"] for line in logged if "train/loss" in line.get("values", {})}
    assert 0 < metrics[20]["train/taught/mask"] < 1
    assert metrics[20]["train/soft/mask"] > 0
    assert metrics[20]["train/loss"] == pytest.approx(
        metrics[20]["train/mask/mask"] + metrics[20]["train/soft/mask"], rel=1e-4
    )


def test_the_own_average_needs_an_average_in_one_process_and_probabilities():
    own = recipe(2, teacher="self", ema=0.9)
    with pytest.raises(InputError, match=r"train\.teacher: self .* set train\.ema"):
        train(recipe(2, teacher="self"))
    with pytest.raises(InputError, match="use ddp"):
        check_own_average(load(own), "fsdp")
    own["model"]["heads"] = {"boxes": {"type": "retina", "classes": {1: "mass"}}}
    with pytest.raises(InputError, match=r"train\.teacher: no head gives probabilities"):
        check_own_average(load({**own, "task": "detection"}), "ddp")


@pytest.mark.parametrize("dims", [2, 3])
def test_a_perturbed_image_has_another_contrast_brightness_and_noise_within_the_stated_ranges(dims):
    torch.manual_seed(0)
    image = 5 + 3 * torch.randn(8, 2, *(32,) * 2, *(8,) * (dims - 2))
    axes = tuple(range(2, 2 + dims))
    seen = perturbed(image)
    shift = (seen.mean(axes) - image.mean(axes)) / image.std(axes)
    contrast = ((seen - seen.mean(axes, True)) * (image - image.mean(axes, True))).mean(axes) / image.var(axes)
    assert shift.abs().max() < 0.3 + 0.05
    assert contrast.min() > 0.7 - 0.05
    assert contrast.max() < 1.3 + 0.05
    noise = (seen - image * contrast.view(8, 2, *(1,) * dims)).std(axes) / image.std(axes)
    assert 0.1 < noise.max() < 0.3 + 0.05
    assert min(shift.std(), contrast.std()) > 0.1, "each image is changed otherwise"


@pytest.mark.parametrize("dims", [2, 3])
def test_a_cross_validation_is_distilled_into_one_network(dims, at_work):
    teacher = cross_validate(recipe(dims), 2)
    taught = recipe(dims, teacher=f"{teacher.folder}/", teacher_weight=2.0)
    student, alone = train(taught), train(recipe(dims))
    weights = [checkpoint.load(run.folder / checkpoint.BEST)[0] for run in (student, alone)]
    assert weights[0].keys() == weights[1].keys()
    assert any(not torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    logged = (student.folder / "tracking.jsonl").read_text()
    assert entry_recipe(student.recipe).train.teacher is None
    assert "train.teacher" in logged


def test_a_teacher_that_does_not_fit_is_refused(at_work):
    teacher = cross_validate(recipe(2), 2)
    named = f"{teacher.folder}/"
    other = recipe(2, teacher=named)
    other["data"]["spacing_mm"] = [2.0, 2.0]
    with pytest.raises(InputError, match="does not fit this recipe: spacing_mm"):
        train(other)
    other = copy.deepcopy(recipe(2, teacher=named))
    other["model"]["heads"] = {"outline": other["model"]["heads"]["mask"]}
    with pytest.raises(InputError, match=r"heads \['outline'\], but the teacher has \['mask'\]"):
        train(other)
    leaking = recipe(2, teacher=named)
    cases = Pipeline.from_recipe(load(leaking)).dataset.cases("val")
    seen = teacher.folder / "data.json"
    test = Pipeline.from_recipe(load(leaking)).dataset.cases("test")[0]
    seen.write_text(seen.read_text().replace(cases[0].id, test.id))
    with pytest.raises(DataError, match=r"train\.teacher: 1 of 2 test cases .* were in val"):
        train(leaking)
