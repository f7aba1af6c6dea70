import numpy as np
import pytest
from matplotlib.image import imread

from cphloc.evaluation.pictures import draw_case, drawing, extremes, heading
from cphloc.evaluation.prediction import CasePrediction
from cphloc.structures.annotation import Annotation
from cphloc.structures.geometry import Geometry
from cphloc.structures.volume import Volume

SHAPES = {2: (32, 48), 3: (16, 32, 48)}


def example(dims):
    """An image and its annotation."""
    shape = SHAPES[dims]
    image = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
    mask = np.zeros(shape, np.uint8)
    mask[..., 8:20, 10:30] = 1
    return Volume(image, Geometry.regular(shape, (1.0,) * dims)), Annotation(mask=mask)


def answers(dims):
    shape = SHAPES[dims]
    mask = np.zeros(shape, np.uint8)
    mask[..., 10:22, 12:32] = 1
    box = np.array([[2.0, 10, 12][-dims:] + [12.0, 22, 32][-dims:]])
    return {
        "nothing": CasePrediction(),
        "mask": CasePrediction(mask=mask),
        "boxes": CasePrediction(boxes=box, scores=np.array([0.9]), box_classes=np.array([1])),
        "attention": CasePrediction(attention=mask / mask.sum()),
    }


@pytest.mark.parametrize("dims", [2, 3])
def test_every_kind_of_answer_can_be_seen(dims, tmp_path):
    pictures = {}
    for name, found in answers(dims).items():
        draw_case(*example(dims), found, {1: "mass"}, "worst: a", tmp_path / "pictures" / f"{name}.png")
        pictures[name] = imread(tmp_path / "pictures" / f"{name}.png")
    without = pictures.pop("nothing")
    for name, picture in pictures.items():
        assert picture.shape != without.shape or (picture != without).any(), name


def test_boxes_that_are_unlikely_are_not_drawn(tmp_path):
    for score in (0.9, 0.1):
        found = CasePrediction(boxes=np.array([[2.0, 2, 9, 9]]), scores=np.array([score]), box_classes=np.array([1]))
        draw_case(*example(2), found, {1: "mass"}, "a", tmp_path / f"{score}.png")
    likely, unlikely = (imread(tmp_path / f"{score}.png") for score in (0.9, 0.1))
    assert (likely != unlikely).any()


@pytest.mark.parametrize(
    ("scores", "headline", "expected"),
    [
        ({"dice": [0.9, 0.5, 0.7]}, "dice", ("dice", "b", "c", "a")),
        ({"hd95_mm": [9.0, 5.0, 7.0]}, "hd95_mm", ("hd95_mm", "a", "c", "b")),
        ({"case_ap50": [0.2, 0.1, 0.3]}, "ap50", ("case_ap50", "b", "a", "c")),
        ({"dice": [0.9, float("nan"), 0.7]}, "dice", ("dice", "c", "a", "a")),
    ],
)
def test_cases_are_ranked_by_the_headline_or_what_stands_in_for_it(scores, headline, expected):
    rows = [{"case": c, "patient": c, **{n: v[i] for n, v in scores.items()}} for i, c in enumerate("abc")]
    name, chosen = extremes(rows, headline)
    assert (name, *(chosen[place] for place in ("worst", "median", "best"))) == expected


def test_a_heading_states_the_score_of_its_own_case():
    rows = [{"case": case, "dice": value} for case, value in (("a", 0.1), ("b", 0.25), ("c", 0.9))]
    assert heading("worst", "b", "dice", rows) == "worst: b, dice 0.250"
    assert heading("best", "c", "hd95_mm", rows) == "best: c, hd95_mm nan"


def test_a_figure_that_cannot_be_drawn_ends_nothing(caplog):
    with drawing("the cases"):
        raise RuntimeError("no font")
    assert "the cases cannot be drawn (RuntimeError: no font); all numbers are written" in caplog.text
    with pytest.raises(KeyboardInterrupt), drawing("the cases"):
        raise KeyboardInterrupt
