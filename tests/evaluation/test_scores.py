"""Scores of cases worked out by hand: lines of voxels in 2-D, planes of them in 3-D."""

import numpy as np
import pytest
from columns import columns

from cphloc.evaluation.prediction import CasePrediction
from cphloc.evaluation.scores import ScoredCase, Scores, score_case, summary
from cphloc.metrics.detection import DetectionCase
from cphloc.metrics.summary import CaseScores
from cphloc.structures.annotation import Annotation
from cphloc.structures.geometry import Geometry
from cphloc.structures.volume import reoriented

ONE, TWO = {1: "mass"}, {1: "mass", 2: "cyst"}
both = pytest.mark.parametrize("dims", [2, 3])


def scored(dims, prediction, annotation, case="a", patient="a", classes=ONE, spacing=None, unit="mm"):
    geometry = Geometry.regular((8,) * dims, spacing, unit)
    annotation = annotation.completed(geometry.shape, len(classes))
    return score_case(case, patient, prediction, annotation, geometry, classes)


def box(dims, first, last):
    """A box from column ``first`` to before column ``last``, of the whole image along the other axes."""
    return [0.0] * (dims - 1) + [first] + [8.0] * (dims - 1) + [last]


def boxed(dims, case, found, there, patient=None):
    """A case with the boxes ``(first, last, score)`` found and the boxes ``(first, last)`` there, of class 1."""
    prediction = CasePrediction(
        boxes=np.array([box(dims, a, b) for a, b, _ in found]).reshape(-1, 2 * dims),
        scores=np.array([s for *_, s in found]),
        box_classes=np.ones(len(found), int),
    )
    boxes = np.array([box(dims, a, b) for a, b in there], np.float32).reshape(-1, 2 * dims)
    known = Annotation(boxes=boxes, box_classes=np.ones(len(there), int))
    return scored(dims, prediction, known, case, patient or case)


def labelled(case, probability, label, patient=None):
    prediction = CasePrediction(probabilities=np.array([probability]))
    return scored(2, prediction, Annotation(label=np.array([label])), case, patient or case)


@both
def test_two_columns_shifted_by_one(dims):
    prediction = CasePrediction(mask=columns(dims, 1, 1, 0, 0, 0, 0, 0, 0))
    known = Annotation(mask=columns(dims, 0, 1, 1, 0, 0, 0, 0, 0))
    scores = scored(dims, prediction, known, spacing=(1.0,) * (dims - 1) + (2.0,)).scores.scores
    assert scores["dice"] == pytest.approx(1 / 2)
    assert scores["iou"] == pytest.approx(1 / 3)
    assert scores["volume_error"] == 0
    assert scores["asd_mm"] == pytest.approx(1.0), "half of the surface lies 2 mm off, half lies on the other"
    assert scores["hd95_mm"] == pytest.approx(2.0)
    assert scores["nsd"] == pytest.approx(1 / 2)
    assert scores["lesion_f1"] == 1
    assert ("volume_error_ml" in scores) == (dims == 3)


@both
def test_classes_count_alike_and_each_is_named(dims):
    prediction = CasePrediction(mask=columns(dims, 1, 1, 1, 1, 0, 0, 2, 0))
    known = Annotation(mask=columns(dims, 1, 1, 1, 1, 0, 0, 0, 2))
    scores = scored(dims, prediction, known, classes=TWO).scores.scores
    assert [scores[name] for name in ("dice/mass", "dice/cyst", "dice")] == [1.0, 0.0, 0.5]


@both
def test_an_image_without_physical_size_has_no_millimetres(dims):
    mask = columns(dims, 1, 1, 0, 0, 0, 0, 0, 0)
    known, prediction = Annotation(mask=mask), CasePrediction(mask=mask, attention=mask / mask.sum())
    with_size = scored(dims, prediction, known, classes=TWO).scores.scores
    without = scored(dims, prediction, known, classes=TWO, unit="px").scores.scores
    metrics = {name.partition("/")[0] for name in with_size.keys() - without.keys()}
    assert metrics == {"hd95_mm", "asd_mm", "nsd"} | ({"volume_error_ml"} if dims == 3 else set())
    assert without.keys() <= with_size.keys()


@both
def test_what_lacks_on_either_side_is_not_scored(dims):
    mask = columns(dims, 1, 1, 0, 0, 0, 0, 0, 0)
    boxes = np.array([box(dims, 0, 2)]), np.ones(1), np.ones(1, int)
    everything = CasePrediction(mask, *boxes, attention=mask / mask.sum(), probabilities=np.array([0.9]))
    nothing = scored(dims, everything, Annotation())
    assert (nothing.scores.scores, nothing.boxes, nothing.labels) == ({}, None, None)
    nothing = scored(dims, CasePrediction(), Annotation(mask=mask))
    assert (nothing.scores.scores, nothing.boxes, nothing.labels) == ({}, None, None)
    label_only = scored(dims, everything, Annotation(label=np.array([1.0])))
    assert (label_only.scores.scores, label_only.scores.facts) == ({}, {"p/mass": 0.9})
    empty = scored(dims, everything, Annotation(mask=np.zeros_like(mask)))
    assert "attention_mass" not in empty.scores.scores, "attention is measured where there is something to see"


@both
def test_attention_half_on_the_lesion(dims):
    attention = columns(dims, 1, 1, 0, 0, 0, 0, 0, 0).astype(float)
    known = Annotation(boxes=np.array([box(dims, 1, 3)], np.float32), box_classes=np.array([1]))
    scores = scored(dims, CasePrediction(attention=attention / attention.sum()), known).scores.scores
    assert scores["attention_mass"] == pytest.approx(1 / 2)
    assert scores["attention_enrichment"] == pytest.approx(2), "the lesion fills a quarter of the image"
    assert scores["lesion_recall"] == 1


@both
def test_average_precision_of_a_false_box_before_a_true_one(dims):
    """Ranked by score: a miss, then one of two objects. Precision 1/2 up to recall 1/2, 0 beyond."""
    cases = [boxed(dims, "a", [(0, 4, 0.8)], [(0, 4)]), boxed(dims, "b", [(0, 2, 0.9)], [(5, 8)])]
    values = Scores(cases, ONE).values()
    assert values["ap50"] == pytest.approx(51 * 0.5 / 101)
    assert values["recall50"] == pytest.approx(1 / 2)
    assert values["case_ap50"] == pytest.approx((1 + 0) / 2)


@both
def test_cases_without_boxes_or_labels_change_no_pooled_metric(dims):
    mask = columns(dims, 1, 0, 0, 0, 0, 0, 0, 0)
    other = scored(dims, CasePrediction(mask=mask), Annotation(mask=mask), "z", "z")
    cases = [boxed(dims, "a", [(0, 4, 0.8)], [(0, 4)]), boxed(dims, "b", [(0, 2, 0.9)], [(5, 8)])]
    cases += [labelled("c", 0.9, 1.0), labelled("d", 0.2, 0.0), labelled("e", 0.4, 0.0)]
    alone, among = Scores(cases, ONE).values(), Scores([other, *cases[:2], other, *cases[2:]], ONE).values()
    for name in ("ap50", "recall50", "froc", "auc", "brier"):
        assert among[name] == alone[name], name
    assert among["dice"] == 1
    assert "dice" not in alone


def test_auc_and_brier_by_counting_pairs():
    """Three of the four pairs of a positive and a negative are in order; a label that is unknown counts nowhere."""
    cases = [labelled(*case) for case in (("a", 0.8, 1.0), ("b", 0.3, 1.0), ("c", 0.5, 0.0), ("d", 0.1, 0.0))]
    cases.append(labelled("e", 0.7, float("nan")))
    values = Scores(cases, ONE).values()
    assert values["auc"] == pytest.approx(3 / 4)
    assert values["brier"] == pytest.approx((0.2**2 + 0.7**2 + 0.5**2 + 0.1**2) / 4)


def test_intervals_resample_patients_not_cases():
    def interval(patients):
        cases = []
        for case, (patient, found) in enumerate(zip(patients, (0, 4), strict=True)):
            mask = np.where(np.arange(8) < found, 1, 0)
            prediction = CasePrediction(mask=columns(2, *mask))
            known = Annotation(mask=columns(2, 1, 1, 1, 1, 0, 0, 0, 0))
            cases.append(scored(2, prediction, known, str(case), patient))
        return Scores(cases, ONE).intervals()["dice"]

    one = interval(["p", "p"])
    assert (one.value, one.n) == (0.5, 2)
    assert np.isnan([one.low, one.high]).all(), "one patient leaves nothing to vary, so there is no interval"
    assert interval(["p", "q"])[:4] == (0.5, 0.0, 1.0, 2)


def test_pooled_intervals_resample_patients_too():
    cases = [boxed(2, "a", [(0, 4, 0.8)], [(0, 4)], "p"), boxed(2, "b", [(0, 2, 0.9)], [(5, 8)], "p")]
    one = Scores(cases, ONE).intervals()["ap50"]
    assert one.value > 0
    assert np.isnan([one.low, one.high]).all()
    cases = [boxed(2, "a", [(0, 4, 0.8)], [(0, 4)], "p"), boxed(2, "b", [(0, 2, 0.9)], [(5, 8)], "q")]
    two = Scores(cases, ONE).intervals()["ap50"]
    assert (two.low, two.high) == (0.0, 1.0)


def test_rows_hold_every_score_and_probability_of_their_case():
    rows = Scores([labelled("c", 0.9, 1.0, "p"), boxed(2, "a", [(0, 4, 0.8)], [(0, 4)], "q")], ONE).rows
    assert rows[0] == {"case": "c", "patient": "p", "p/mass": 0.9}
    assert rows[1] == {"case": "a", "patient": "q", "case_ap50": 1.0, "case_recall50": 1.0, "box_iou": 1.0}


def test_curves_are_those_of_what_is_known():
    boxes, labels = boxed(2, "a", [(0, 4, 0.8)], [(0, 4)]), [labelled("b", 0.9, 1.0), labelled("c", 0.2, 0.0)]
    assert set(Scores([boxes], ONE).curves()) == {"precision-recall", "froc", "box-reliability"}
    curves = Scores([boxes, *labels], ONE).curves()
    assert set(curves) == {"precision-recall", "froc", "box-reliability", "roc", "reliability"}
    assert curves["roc"][0].summary.value == 1


def test_the_calibration_error_at_another_temperature():
    """0.9 is stated and half are positive: off by 0.4. Twice the temperature takes the odds of 9 to 3: 0.75."""
    scores = Scores([labelled("a", 0.9, 1.0), labelled("b", 0.9, 0.0)], ONE)
    assert scores.values()["ece"] == pytest.approx(0.4)
    assert scores.calibration_error(2.0).value == pytest.approx(0.25)


def test_a_summary_has_classes_by_themselves():
    prediction = CasePrediction(mask=columns(2, 1, 1, 1, 1, 0, 0, 2, 0))
    known = Annotation(mask=columns(2, 1, 1, 1, 1, 0, 0, 0, 2))
    facts = summary(Scores([scored(2, prediction, known, classes=TWO)], TWO).intervals())
    assert facts["metrics"]["dice"] == {"value": 0.5, "low": None, "high": None, "n": 1, "n_undefined": 0}
    assert {name: table["dice"]["value"] for name, table in facts["per_class"].items()} == {"mass": 1.0, "cyst": 0.0}
    assert not [name for name in facts["metrics"] if "/" in name]


@both
@pytest.mark.parametrize(("unit", "hit"), [("mm", 0.0), ("px", 1.0)])
def test_attention_is_measured_in_millimetres_where_the_grid_has_them(dims, unit, hit):
    """The maximum lies four columns from the region: 20 mm at a spacing of 5 mm, or four pixels."""
    known = Annotation(region=columns(dims, 1, 0, 0, 0, 0, 0, 0, 0).astype(np.float32))
    found = CasePrediction(attention=columns(dims, 0, 0, 0, 0, 1, 0, 0, 0).astype(np.float32))
    assert scored(dims, found, known, spacing=(5.0,) * dims, unit=unit).scores.scores["pointing_near"] == hit


@pytest.mark.parametrize(("order", "flip"), [((2, 0, 1), (1,)), ((1, 2, 0), (0, 2)), ((0, 2, 1), ())])
def test_side_and_slice_are_those_of_the_patient_however_the_voxels_are_stored(order, flip):
    """Attention on the right side of the finding's slice, the finding on the left: the side is wrong, the slice hit."""
    grid = Geometry.regular((6, 8, 10), (3.0, 1.0, 1.0))
    attention, region = np.zeros(grid.shape), np.zeros(grid.shape, np.float32)
    attention[4, 2, 1], region[4, 6, 8] = 1.0, 1.0
    expected = {"side_accuracy": 0.0, "slice_hit": 1.0}
    stored = Annotation(region=reoriented(region, order, flip).copy())
    prediction = CasePrediction(attention=reoriented(attention, order, flip).copy())
    scores = score_case("a", "a", prediction, stored, grid.reoriented(order, flip), ONE).scores.scores
    assert {name: scores[name] for name in expected} == expected


def test_sensitivity_at_each_rate_of_false_positives_is_that_of_the_curve():
    """One of two objects is found at 0.9; two false boxes at 0.8 and 0.7 in two images; the other object at 0.6."""
    boxes = np.array([[0, 0, 4, 4], [20, 20, 24, 24]], float)
    found = [(boxes[:1], 0.9), (boxes[:1] + 40, 0.8), (boxes[:1] + 60, 0.7), (boxes[1:], 0.6)]
    edges, values = (np.array([part[i] for part in found]) for i in (0, 1))
    first = DetectionCase(edges.reshape(-1, 4), values, np.ones(4, int), boxes, np.ones(2, int))
    none = DetectionCase(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int), np.zeros((0, 4)), np.zeros(0, int))
    cases = [ScoredCase(CaseScores(id, id, {}), of) for id, of in (("a", first), ("b", none))]
    points = Scores(cases, {1: "cell"}).sensitivity_at_fp()
    assert list(points) == ["0.125", "0.25", "0.5", "1", "2", "4", "8"]
    # 0 false positives per image: 1/2; at 1 per image the other object is found as well
    assert points["0.5"]["value"] == 0.5
    assert points["1"]["value"] == points["8"]["value"] == 1.0
    assert Scores([ScoredCase(CaseScores("a", "a", {}))], {1: "cell"}).sensitivity_at_fp() == {}
