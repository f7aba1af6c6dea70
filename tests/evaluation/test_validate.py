"""Validation of a model that reads its answers off the image, on prepared cases of a few voxels."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch.distributed as dist

from cphloc.data.pipeline.cache import PreparedCase
from cphloc.evaluation.prediction import case_prediction
from cphloc.evaluation.validate import Validator, metric_names
from cphloc.structures.annotation import Annotation, Rung
from cphloc.structures.geometry import Geometry

TWO = {1: "mass", 2: "cyst"}
both = pytest.mark.parametrize("dims", [2, 3])


class Prepared(list):
    """Prepared cases that were made in memory."""

    @property
    def cases(self):
        return [SimpleNamespace(patient=f"patient of {case.id}", annotation=case.annotation) for case in self]


def columns(dims, *values):
    """An image of columns along the last axis; 8 voxels along the other axes."""
    return np.broadcast_to(np.array(values, np.float32), (8,) * (dims - 1) + (len(values),)).copy()


def prepared(name, image, **known):
    geometry = Geometry.regular(image.shape)
    return PreparedCase(name, image[None], Annotation(**known), geometry, geometry, np.zeros((0, image.ndim + 1)), "")


def as_mask(image):
    return image.astype(np.uint8)


def three_cases(dims):
    """Dice of the mass 1, 1/2 and 0; larger than a window along the last axis."""
    there = columns(dims, *[0] * 12, 1, 1, 0, 0)
    found = {"c": there, "a": columns(dims, *[0] * 13, 1, 1, 0), "b": columns(dims, 1, 1, *[0] * 14)}
    return Prepared(prepared(name, image, mask=as_mask(there)) for name, image in found.items())


@both
def test_every_case_is_measured_window_by_window(image_reader, dims):
    done = Validator(three_cases(dims), TWO, (8,) * dims)(image_reader(dims))
    assert [(row["case"], row["patient"]) for row in done.cases] == [(c, f"patient of {c}") for c in "abc"]
    assert [row["dice/mass"] for row in done.cases] == pytest.approx([0.5, 0.0, 1.0])
    assert done.metrics["dice/mass"] == pytest.approx(0.5)
    assert done.metrics["recall50"] == pytest.approx(1 / 3)
    assert done.scores.values() == pytest.approx(done.metrics, nan_ok=True)


@both
def test_what_is_predicted_is_what_the_image_says(image_reader, dims):
    image = columns(dims, 0, 0, 1, 1, 2, 2, 0, 0)
    case = prepared("a", image, mask=as_mask(image))
    found = Validator(Prepared([case]), TWO, (8,) * dims).predict(image_reader(dims), case)
    np.testing.assert_array_equal(found.mask, image)
    assert found.mask.dtype == np.uint8
    edges = {c: b.tolist() for c, b in zip(found.box_classes, found.boxes, strict=True)}
    low, high = [0.0] * (dims - 1), [8.0] * (dims - 1)
    assert edges == {1: [*low, 2.0, *high, 4.0], 2: [*low, 4.0, *high, 6.0]}
    assert found.scores == pytest.approx([0.9, 0.9])
    assert found.probabilities == pytest.approx([0.99, 0.5])
    assert found.attention[image > 0].sum() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("rung", ["mask", "boxes", "region", "label"])
@both
def test_the_metrics_are_known_before_the_training(image_reader, dims, rung):
    image = columns(dims, 0, 0, 1, 1, 2, 2, 0, 0)
    stated = Annotation(mask=as_mask(image)).completed(image.shape, 2)
    known = {rung: getattr(stated, rung)} | ({"box_classes": stated.box_classes} if rung == "boxes" else {})
    other = prepared("b", image, label=np.array([0.0, 0.0]))  # a weaker annotation takes nothing away
    validator = Validator(Prepared([prepared("a", image, **known), other]), TWO, image.shape)
    predicted = ["mask", "boxes", "attention", "labels"]
    names = metric_names(predicted, validator.cases[0].annotation.rung, "mm", dims, TWO)
    assert names == set(validator(image_reader(dims)).metrics)
    assert {"mask": "dice", "boxes": "ap50", "region": "attention_mass", "label": "auc"}[rung] in names


@pytest.mark.parametrize(("columns_seen", "ap"), [((0, 0, 1, 1, 2, 2, 0, 0), 1.0), ((0,) * 8, 0.0)])
@both
def test_outlined_objects_are_measured_in_training_also_where_none_is_found(image_reader, dims, columns_seen, ap):
    true = as_mask(columns(dims, 0, 0, 1, 1, 2, 2, 0, 0))
    validator = Validator(Prepared([prepared("a", columns(dims, *columns_seen), mask=true)]), TWO, true.shape)
    outlining = image_reader(dims, ("mask_probabilities", "detections", "objects"))
    metrics = validator(outlining).metrics
    assert [metrics[name] for name in ("mask_map", "mask_ap50", "pq", "mask_ap50/cyst")] == [ap] * 4
    assert set(metrics) == metric_names(["mask", "boxes", "objects"], Rung.MASK, "mm", dims, TWO)


@both
def test_outlined_objects_are_measured_in_an_evaluation_also_where_none_is_found(hand_made, dims):
    """As in training; a model that gives boxes alone has no such metric."""
    true = as_mask(columns(dims, 0, 0, 1, 1, 2, 2, 0, 0))
    row = {"case": "a", "patient": "p", "split": "test", "image": np.zeros_like(true, np.float32), "mask": true}
    localizer = hand_made([row], ("detections", "objects"))
    found = localizer.predict(np.zeros(true.shape, np.float32), (1.0,) * dims)
    assert found.outlines
    assert case_prediction(found, TWO).objects == ()
    assert case_prediction(replace(found, outlines=False), TWO).objects is None


def test_processes_share_the_cases_and_all_know_the_result(image_reader, monkeypatch):
    alone = Validator(three_cases(2), TWO, (8, 8))(image_reader(2))
    shares = {}

    def gather(into, mine):
        shares[dist.get_rank()] = mine
        into[:] = [shares.get(rank, []) for rank in range(2)]

    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "all_gather_object", gather)
    for rank in (1, 0):
        monkeypatch.setattr(dist, "get_rank", lambda rank=rank: rank)
        together = Validator(three_cases(2), TWO, (8, 8))(image_reader(2))
    assert sorted(map(len, shares.values())) == [1, 2]
    assert [(row["case"], row["dice"]) for row in together.cases] == [(row["case"], row["dice"]) for row in alone.cases]
    assert together.metrics == pytest.approx(alone.metrics, nan_ok=True)
