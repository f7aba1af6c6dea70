import numpy as np
import pytest
from matplotlib.image import imread

from cphloc.annotation import Annotation
from cphloc.data.cache import PreparedCase
from cphloc.geometry import Geometry
from cphloc.training.pictures import draw_case, draw_curves
from cphloc.training.scores import Found

SHAPES = {2: (32, 48), 3: (16, 32, 48)}


def prepared(dims):
    shape = SHAPES[dims]
    image = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
    mask = np.zeros(shape, np.uint8)
    mask[..., 8:20, 10:30] = 1
    grid = Geometry.regular(shape, (1.0,) * dims)
    return PreparedCase("a", image, Annotation(mask=mask), grid, grid, np.zeros((0, 1 + dims), np.int32), "")


def answers(dims):
    shape = SHAPES[dims]
    mask = np.zeros(shape, np.uint8)
    mask[..., 10:22, 12:32] = 1
    box = np.array([[2.0, 10, 12][-dims:] + [12.0, 22, 32][-dims:]])
    return {
        "nothing": Found(),
        "mask": Found(mask=mask),
        "boxes": Found(boxes=box, scores=np.array([0.9]), box_classes=np.array([1])),
        "attention": Found(attention=mask / mask.sum()),
    }


@pytest.mark.parametrize("dims", [2, 3])
def test_every_kind_of_answer_can_be_seen(dims, tmp_path):
    pictures = {}
    for name, found in answers(dims).items():
        draw_case(prepared(dims), found, {1: "mass"}, "worst: a", tmp_path / "pictures" / f"{name}.png")
        pictures[name] = imread(tmp_path / "pictures" / f"{name}.png")
    without = pictures.pop("nothing")
    for name, picture in pictures.items():
        assert picture.shape != without.shape or (picture != without).any(), name


def test_boxes_that_are_unlikely_are_not_drawn(tmp_path):
    for score in (0.9, 0.1):
        found = Found(boxes=np.array([[2.0, 2, 9, 9]]), scores=np.array([score]), box_classes=np.array([1]))
        draw_case(prepared(2), found, {1: "mass"}, "a", tmp_path / f"{score}.png")
    likely, unlikely = (imread(tmp_path / f"{score}.png") for score in (0.9, 0.1))
    assert (likely != unlikely).any()


def test_curves_are_drawn_one_panel_for_each_kind(tmp_path):
    curves = {"train/loss": [(1, 2.0), (2, 1.0)], "val/dice": [(2, 0.5)], "train/lr": [(1, 0.1), (2, 0.0)]}
    draw_curves(curves, tmp_path / "all.png")
    draw_curves({"train/loss": curves["train/loss"]}, tmp_path / "one.png")
    assert imread(tmp_path / "all.png").shape[1] > 2 * imread(tmp_path / "one.png").shape[1]
