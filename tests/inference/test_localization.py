from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from pycocotools import mask as rle

from cphloc.data.io.read import read_mask, read_volume
from cphloc.evaluation.pictures import draw_case
from cphloc.evaluation.prediction import case_prediction
from cphloc.evaluation.scores import Scores, score_case
from cphloc.inference.crops import onto_image
from cphloc.inference.localization import Box, Localization
from cphloc.inference.restored import localization_of
from cphloc.ops.targets import Detections, Prediction
from cphloc.structures.annotation import Annotation
from cphloc.structures.geometry import Geometry
from cphloc.structures.instances import of_instances
from cphloc.structures.volume import Volume, reoriented


@pytest.mark.parametrize("dims", [2, 3])
def test_a_picture_shows_every_box_with_its_name_and_score(dims):
    image = read_volume(np.random.default_rng(0).random((16,) * dims), spacing_mm=(1.0,) * dims)
    edges = [(2.0,) * dims + (8.0,) * dims, (4.0,) * dims + (12.0,) * dims]
    boxes = [Box("mass", 0.9, edges[0], ()), Box("cyst", 0.35, edges[1], ())]
    figure = Localization(image, {1: "mass", 2: "cyst"}, boxes=boxes).plot()
    texts = {text.get_text().strip() for axes in figure.axes for text in axes.texts}
    assert {"mass 0.90", "cyst 0.35"} <= texts
    assert not Localization(image, {1: "mass", 2: "cyst"}, boxes=[]).plot().axes[0].texts


TURNED = {
    2: Geometry((10, 12), (1.0, 1.0), (0.0, 0.0), np.array([[1.0, 0], [0, -1]])),
    3: Geometry((8, 10, 12), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])),
}
"""Grids whose axes are neither in canonical order nor all in canonical direction."""


def touching(shape):
    """Two objects of class 1 that touch, neither of them a box."""
    instances = np.zeros(shape, np.int32)
    instances[..., 1:6, 2:6], instances[..., 5:9, 4:9] = 1, 2
    instances[..., 1, 2] = instances[..., 8, 8] = 0
    return instances


@pytest.fixture(params=[2, 3])
def outlined(request):
    """An image in an unusual storage order, its objects, and the result of a head that outlines them exactly."""
    grid = TURNED[request.param]
    instances = touching(grid.shape)
    order, flip = grid.canonical()
    prepared = grid.reoriented(order, flip)
    assert (order, flip) != (tuple(range(grid.dims)), ())
    seen = of_instances(reoriented(instances, order, flip), 1)
    parts = [tuple(map(slice, *np.split(box.astype(int), 2))) for box in seen.boxes]
    found = [
        Detections(torch.from_numpy(seen.boxes[k : k + 1]), torch.tensor([0.9 - k / 10]), torch.tensor([1]), mask[None])
        for k, mask in enumerate(torch.from_numpy(1.0 * (seen.instances[p] == n + 1)) for n, p in enumerate(parts))
    ]
    volume = Volume(np.random.default_rng(0).random((1, *grid.shape)), grid)
    results = [localization_of({"h": Prediction(detections=[d])}, {}, volume, prepared, {1: "cell"}) for d in found]
    boxes = [box for result in results for box in result.boxes]
    return Localization(volume, {1: "cell"}, boxes=boxes, outlines=True, case="a"), instances


def test_outlined_objects_are_where_they_are_in_the_image_in_any_storage_order(outlined):
    result, instances = outlined
    assert np.array_equal(result.instances, instances)
    assert Localization(result.image, result.classes, boxes=[Box("cell", 0.5, (0.0,), ())]).instances is None


def test_outlined_objects_are_saved_as_a_label_image_and_in_coco_files(outlined, tmp_path):
    result, instances = outlined
    (path,) = [p for p in result.save(tmp_path) if "_instances" in p.name]
    assert np.array_equal(read_mask(path, like=result.image.geometry, binary=False), instances)
    summary = json.loads((tmp_path / "a_result.json").read_text())
    assert "mask" not in summary["boxes"][0]
    if instances.ndim == 2:
        items = json.loads((tmp_path / "a_boxes.json").read_text())["annotations"]
        drawn = [rle.decode(rle.frPyObjects(each["segmentation"], *instances.shape)) for each in items]
        assert [each["area"] for each in items] == [int(each.sum()) for each in drawn]
        assert all(np.array_equal(each, instances == k) for k, each in enumerate(drawn, start=1))


def test_a_picture_shows_each_object_in_a_colour_of_its_own(outlined):
    result, _ = outlined
    axes = result.plot().axes[0]
    colours = {tuple(c) for drawn in axes.collections for c in drawn.get_edgecolor()}
    assert len(colours) == 2
    assert {patch.get_edgecolor()[:3] for patch in axes.patches} == {colour[:3] for colour in colours}


def test_the_picture_of_an_evaluation_draws_annotated_and_found_objects_apart(outlined, monkeypatch, tmp_path):
    result, instances = outlined
    drawn = {}

    def overlay(volume, classes, masks, *rest):
        drawn.update(masks)
        return result.plot()

    monkeypatch.setattr("cphloc.evaluation.pictures.overlay", overlay)
    truth = of_instances(instances, 1).completed(instances.shape, 1)
    prediction = case_prediction(result, {1: "cell"})
    draw_case(result.image, truth, prediction, {1: "cell"}, "a", tmp_path / "a.png", least_score=0.85)
    assert np.array_equal(drawn["expert"], instances)
    assert np.array_equal(drawn["cphloc"], np.where(instances == 1, 1, 0))


def test_objects_of_a_crop_are_moved_with_it(outlined):
    result, instances = outlined
    offset = (1,) * instances.ndim
    whole = Volume(
        np.zeros((1, *(n + 3 for n in instances.shape))), Geometry.regular(tuple(n + 3 for n in instances.shape))
    )
    moved = onto_image(result, whole, offset).instances
    assert np.array_equal(moved[tuple(slice(1, 1 + n) for n in instances.shape)], instances)
    assert (moved > 0).sum() == (instances > 0).sum()


def test_outlined_objects_are_scored_by_their_masks(outlined):
    result, instances = outlined
    truth = of_instances(instances, 1).completed(instances.shape, 1)
    scored = score_case("a", "a", case_prediction(result, {1: "cell"}), truth, result.image.geometry, {1: "cell"})
    values = Scores([scored], {1: "cell"}).values()
    assert values["mask_map"] == values["mask_ap50"] == values["pq"] == 1
    merged = Annotation(mask=truth.mask).completed(instances.shape, 1)
    scored = score_case("a", "a", case_prediction(result, {1: "cell"}), merged, result.image.geometry, {1: "cell"})
    assert Scores([scored], {1: "cell"}).values()["pq"] < 1


def test_a_detector_without_outlines_has_no_metrics_of_masks(outlined):
    result, instances = outlined
    plain = Localization(result.image, result.classes, boxes=[Box("cell", 0.9, result.boxes[0].voxels, (), 1)])
    truth = of_instances(instances, 1).completed(instances.shape, 1)
    scored = score_case("a", "a", case_prediction(plain, {1: "cell"}), truth, result.image.geometry, {1: "cell"})
    assert "map" in Scores([scored], {1: "cell"}).values()
    assert "pq" not in Scores([scored], {1: "cell"}).values()
