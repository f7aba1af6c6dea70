"""Every plot is drawn, and its points are beside it."""

import csv

import numpy as np
import pytest
from matplotlib.image import imread

from cphloc.evaluation import plots
from cphloc.evaluation.plots import draw_learning, draw_lr_range, draw_scores
from cphloc.evaluation.prediction import CasePrediction
from cphloc.evaluation.scores import Scores, score_case
from cphloc.structures.annotation import Annotation
from cphloc.structures.geometry import Geometry


def scores_of(dims, cases=6):
    """Cases of two classes with boxes and labels, the later ones found with a shift and one not at all."""
    scored = []
    for i in range(cases):
        boxes = np.array([[2.0] * dims + [10.0] * dims, [12.0] * dims + [16.0] * dims])
        known = Annotation(boxes=boxes, box_classes=np.array([1, 2])).completed((20,) * dims, 2)
        found = CasePrediction(
            boxes=boxes[: 2 - (i == 0)] + i / 2,
            scores=np.array([0.9, 0.5])[: 2 - (i == 0)],
            box_classes=np.array([1, 2])[: 2 - (i == 0)],
            probabilities=np.array([0.9, 0.2]),
        )
        scored.append(
            score_case(f"case{i}", f"p{i // 2}", found, known, Geometry.regular((20,) * dims), {1: "a", 2: "b"})
        )
    return Scores(scored, {1: "a", 2: "b"})


@pytest.mark.parametrize("dims", [2, 3])
def test_boxes_and_labels_get_their_curves_and_points(dims, tmp_path):
    scores = scores_of(dims)
    files = draw_scores(scores.curves(), tmp_path, "val-")
    kinds = ("precision-recall", "froc", "box-reliability", "roc", "reliability")
    assert {f.name for f in files} == {f"val-{kind}.{suffix}" for kind in kinds for suffix in ("png", "csv")}
    for file in files:
        assert file.suffix == ".csv" or imread(file).std() > 0
    with (tmp_path / "val-precision-recall.csv").open() as file:
        rows = list(csv.DictReader(file))
    for name in ("a", "b"):
        mean = np.mean([float(row["y"]) for row in rows if row["class"] == name])
        assert mean == pytest.approx(scores.values()[f"ap50/{name}"], abs=1e-6), "AP is the mean of what is drawn"


def test_axes_suit_the_kind_of_curve(tmp_path, monkeypatch):
    figures = {}
    monkeypatch.setattr(plots, "_save", lambda figure, path: figures.setdefault(path.stem, figure))
    draw_scores(scores_of(2).curves(), tmp_path)
    axes = {kind: figure.axes[0] for kind, figure in figures.items()}
    assert {kind: a.get_xscale() for kind, a in axes.items() if a.get_xscale() != "linear"} == {"froc": "log"}
    assert all(a.get_ylim() == (-0.02, 1.02) for a in axes.values())
    dotted = {
        k: [line.get_xydata().tolist() for line in a.lines if line.get_linestyle() == ":"] for k, a in axes.items()
    }
    diagonal = [[[0.0, 0.0], [1.0, 1.0]]]
    chance = dict.fromkeys(("box-reliability", "roc", "reliability"), diagonal)
    assert dotted == {"precision-recall": [], "froc": [], **chance}


def test_masks_alone_have_no_curves(tmp_path):
    mask = np.ones((4, 4), np.uint8)
    scored = score_case("a", "a", CasePrediction(mask=mask), Annotation(mask=mask), Geometry.regular((4, 4)), {1: "x"})
    assert draw_scores(Scores([scored], {1: "x"}).curves(), tmp_path) == []


def test_learning_is_drawn_one_panel_for_each_kind_and_unit(tmp_path):
    curves = {"train/loss": [(1, 2.0), (2, 1.0)], "val/dice": [(2, 0.5)], "val/hd95_mm": [(2, 9.0)]}
    draw_learning(curves, tmp_path / "all.png")
    draw_learning({"train/loss": curves["train/loss"]}, tmp_path / "one.png")
    assert imread(tmp_path / "all.png").shape[1] > 2.5 * imread(tmp_path / "one.png").shape[1]


def test_a_range_test_is_drawn_with_and_without_a_suggestion(tmp_path):
    rates, losses = np.geomspace(1e-6, 1, 50), np.linspace(2, 1, 50)
    for name, best in (("with", 1e-2), ("without", None)):
        draw_lr_range(rates, losses, losses, best, tmp_path / f"{name}.png")
    pictures = [imread(tmp_path / f"{name}.png") for name in ("with", "without")]
    assert (pictures[0] != pictures[1]).any()


def test_a_range_test_is_cut_off_above_where_the_loss_explodes(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(plots, "_save", lambda figure, path: figures.append(figure))
    draw_lr_range([1e-3, 1e-2, 1e-1, 1], [2, 1.5, 1, 900], [2, 1.5, 1, 800], None, tmp_path / "range.png")
    assert figures[0].axes[0].get_ylim() == pytest.approx((0.9, 2.5))  # the losses up to 2, a tenth below, half above
