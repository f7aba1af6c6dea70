"""The baseline on training cases of a few voxels, whose averages are worked out by hand."""

import io
import tracemalloc
import zipfile
from functools import partial

import numpy as np
import pytest
from columns import columns as columns_of

from cphloc.data.case import AnnotationSource, Case
from cphloc.errors import DataError
from cphloc.evaluation.baseline import BASELINES, Baseline, mean_shape, prior_baseline
from cphloc.evaluation.scores import Scores, score_case
from cphloc.structures.annotation import Annotation
from cphloc.structures.geometry import Geometry

ONE, TWO = {1: "mass"}, {1: "mass", 2: "cyst"}
both = pytest.mark.parametrize("dims", [2, 3])


@pytest.fixture
def case(tmp_path):
    """Makes a case of so many voxels along each axis, with a mask or other annotations."""

    def make(name, shape, mask=None, **annotation):
        np.save(tmp_path / f"{name}.npy", np.zeros(shape, np.float32))
        if mask is not None:
            np.save(tmp_path / f"{name}-mask.npy", mask)
            annotation["mask"] = tmp_path / f"{name}-mask.npy"
        return Case(name, name, (tmp_path / f"{name}.npy",), AnnotationSource(**annotation), (1.0,) * len(shape))

    return make


columns = partial(columns_of, across=4)


def masks(case, dims, *rows):
    made = [columns(dims, *row) for row in rows]
    return [case(str(i), mask.shape, mask) for i, mask in enumerate(made)]


def grid(dims, n, direction=1.0):
    matrix = np.eye(dims)[::-1].copy()
    matrix[:, -1] *= direction
    return Geometry((4,) * (dims - 1) + (n,), (1.0,) * dims, (0.0,) * dims, matrix)


@both
def test_the_shape_of_the_majority_is_predicted(case, dims):
    cases = masks(case, dims, [1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1])
    predicted = mean_shape(cases, dims, 1)(grid(dims, 4))
    assert predicted.dtype == np.uint8
    np.testing.assert_array_equal(predicted, columns(dims, 1, 1, 0, 0))


@both
def test_the_mean_shape_of_objects_that_lie_anywhere_is_not_empty(case, dims):
    """Each of ten columns is marked in one case: all together have a Dice of 2 / (10 + 1), no voxel one of 0."""
    cases = masks(case, dims, *np.eye(10, dtype=int).tolist())
    np.testing.assert_array_equal(mean_shape(cases, dims, 1)(grid(dims, 10)), columns(dims, *[1] * 10))


@both
def test_the_threshold_is_the_one_with_the_best_dice_in_training(case, dims):
    """Each column is marked in a third of the cases: all three together score 0.5, none of them 0."""
    cases = masks(case, dims, [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0])
    np.testing.assert_array_equal(mean_shape(cases, dims, 1)(grid(dims, 4)), columns(dims, 1, 1, 1, 0))


@both
@pytest.mark.parametrize("parts", [("mask",), ("boxes", "probabilities")])
def test_memory_does_not_grow_with_the_voxels_of_all_cases(case, dims, parts):
    """Twenty more cases need less than one more mask."""
    shape = (64,) * dims if dims == 3 else (512, 512)
    mask = np.zeros(shape, np.uint8)
    mask[(slice(8, 40),) * dims] = 1

    def peak(count):
        tracemalloc.start()
        prior_baseline([case(f"{count}-{k}", shape, mask) for k in range(count)], dims, TWO, parts)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(2)  # imports
    assert peak(24) - peak(4) < mask.nbytes


@both
def test_the_shape_is_stretched_and_turned_to_the_grid_of_the_image(case, dims):
    predict = mean_shape(masks(case, dims, [1, 1, 0, 2], [1, 1, 0, 2]), dims, 2)
    np.testing.assert_array_equal(predict(grid(dims, 4)), columns(dims, 1, 1, 0, 2))
    np.testing.assert_array_equal(predict(grid(dims, 4, direction=-1.0)), columns(dims, 2, 0, 1, 1))
    twice = predict(grid(dims, 8))
    assert set(twice[..., :3].ravel()) == {1}
    assert set(twice[..., -1].ravel()) == {2}


@both
def test_the_mean_box_is_the_mean_share_of_the_image(case, dims):
    """First half of one image and second half of another, of other size: on a third the middle half."""
    first, second = (4.0,) * dims, (8.0,) * dims
    cases = [
        case("a", (8,) * dims, boxes=((0.0,) * dims + first,), box_classes=(1,)),
        case("b", (16,) * dims, boxes=(second + (16.0,) * dims,), box_classes=(1,)),
        case("c", (8,) * dims, boxes=()),
    ]
    predict = prior_baseline(cases, dims, TWO, {"boxes"})
    predicted = predict(Geometry.regular((12,) * dims))
    np.testing.assert_allclose(predicted.boxes, [(3.0,) * dims + (9.0,) * dims])
    np.testing.assert_allclose(predicted.scores, [2 / 3], err_msg="two of the three images hold a mass")
    assert predicted.box_classes.tolist() == [1], "no cyst was ever seen"


@both
def test_the_mean_box_is_turned_to_the_grid_of_the_image(case, dims):
    low, high = (0.0,) * (dims - 1) + (1.0,), (4.0,) * (dims - 1) + (3.0,)
    predict = prior_baseline([case("a", (4,) * dims, boxes=(low + high,), box_classes=(1,))], dims, ONE, {"boxes"})
    mirrored = predict(grid(dims, 8, direction=-1.0))
    np.testing.assert_allclose(mirrored.boxes, [(0.0,) * (dims - 1) + (2.0,) + (4.0,) * (dims - 1) + (6.0,)])
    skew = predict(Geometry((8,) + (4,) * (dims - 1), (1.0,) * dims, (0.0,) * dims, np.roll(np.eye(dims)[::-1], 1, 1)))
    np.testing.assert_allclose(skew.boxes, [(2.0,) + (0.0,) * (dims - 1) + (6.0,) + (4.0,) * (dims - 1)])


@both
def test_the_mean_box_finds_what_lies_where_it_always_lay(case, dims):
    size, place = (8,) * dims, (2.0,) * dims + (6.0,) * dims
    elsewhere = (0.0,) * dims + (2.0,) * dims
    cases = [case(name, size, boxes=(place, elsewhere), box_classes=(1, 2)) for name in "ab"]
    predict = prior_baseline(cases, dims, TWO, {"boxes"})
    geometry = Geometry.regular(size)
    known = Annotation(boxes=np.array([place, elsewhere], np.float32), box_classes=np.array([1, 2]))
    same = score_case("c", "c", predict(geometry), known.completed(size, 2), geometry, TWO)
    values = Scores([same], TWO).values()
    assert [values[name] for name in ("map", "ap50/mass", "ap50/cyst", "recall50", "froc")] == [1.0] * 5


@both
def test_each_label_is_as_likely_as_in_training(case, dims):
    nan = float("nan")
    cases = [case(str(i), (4,) * dims, label=label) for i, label in enumerate([(1, 0), (1, nan), (0, 1)])]
    predicted = prior_baseline(cases, dims, TWO, {"probabilities"})(grid(dims, 4))
    np.testing.assert_allclose(predicted.probabilities, [2 / 3, 1 / 2])


@both
def test_attention_is_even_and_nothing_else_is_predicted_unasked(case, dims):
    cases = masks(case, dims, [1, 1, 0, 0])
    predicted = prior_baseline(cases, dims, ONE, {"attention"})(grid(dims, 8))
    assert np.unique(predicted.attention).size == 1
    assert predicted.attention.sum() == pytest.approx(1)
    assert (predicted.mask, predicted.boxes, predicted.probabilities) == (None, None, None)
    assert prior_baseline(cases, dims, ONE, {"mask"})(grid(dims, 8)).attention is None


def test_masks_state_the_boxes_and_labels_too(case):
    cases = masks(case, 2, [1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0])
    predicted = prior_baseline(cases, 2, ONE, {"boxes", "probabilities"})(grid(2, 4))
    np.testing.assert_allclose(predicted.boxes, [[0, 0, 4, 2]])
    np.testing.assert_allclose(predicted.probabilities, [2 / 3])


def test_a_part_that_no_training_case_has_is_left_out(case):
    found = prior_baseline([case("a", (4, 4), label=(1.0,))], 2, ONE, {"mask", "probabilities"})
    assert found.name == "frequency in training"
    predicted = found(grid(2, 4))
    assert predicted.mask is predicted.boxes is None


@both
def test_a_class_is_averaged_over_the_cases_in_which_it_was_looked_for(case, dims):
    """The cyst lies in the last column of two cases; in the third and fourth, nobody looked for it."""
    rows = [[1, 0, 0, 2], [1, 0, 0, 2], [1, 0, 0, 0], [1, 0, 0, 0]]
    known = [None, None, (True, False), (True, False)]
    pairs = enumerate(zip(rows, known, strict=True))
    cases = [case(str(i), (4,) * dims, columns(dims, *row), known=k) for i, (row, k) in pairs]
    found = prior_baseline(cases, dims, TWO, {"mask", "boxes", "probabilities"})
    np.testing.assert_array_equal(found(grid(dims, 4)).mask, columns(dims, 1, 0, 0, 2))
    np.testing.assert_allclose(found(grid(dims, 4)).probabilities, [1, 1])
    np.testing.assert_allclose(found.boxes.scores, [1, 1])


@both
def test_a_stored_baseline_predicts_the_same(case, dims, tmp_path):
    found = prior_baseline(masks(case, dims, [1, 1, 0, 2], [1, 0, 0, 2], [0, 1, 1, 2]), dims, TWO, BASELINES)
    found.save(tmp_path / "baseline.npz")
    again = Baseline.load(tmp_path / "baseline.npz", dims, 2)
    assert again.name == found.name == ", ".join(BASELINES.values())
    for part in ("mask", "boxes", "scores", "box_classes", "attention", "probabilities"):
        first, second = (getattr(b(grid(dims, 7)), part) for b in (found, again))
        np.testing.assert_array_equal(first, second)
    for wrong in ({"dims": 5 - dims, "classes": 2}, {"dims": dims, "classes": 3}):
        with pytest.raises(DataError, match=r"baseline.npz: is not the baseline of this model \(it is not of"):
            Baseline.load(tmp_path / "baseline.npz", **wrong)


def test_a_damaged_baseline_is_named(tmp_path):
    (tmp_path / "baseline.npz").write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(DataError, match=r"baseline.npz: is not the baseline of this model .*; download or publish"):
        Baseline.load(tmp_path / "baseline.npz", 2, 1)


def damaged_baselines() -> dict[str, bytes]:
    """Archives whose arrays are cut, claim more than there is, or hold no numbers."""

    def archive(**arrays: np.ndarray | bytes) -> bytes:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
            for name, array in arrays.items():
                content = io.BytesIO()
                np.save(content, array) if isinstance(array, np.ndarray) else content.write(array)
                made.writestr(f"{name}.npy", content.getvalue())
        return file.getvalue()

    claim = b"{'descr': '<f4', 'fortran_order': False, 'shape': (%d,)}" % 10**15
    other = {"threshold": np.array(0.5), "attention": np.array(False)}
    whole = archive(shape=np.random.default_rng(0).random((2, 9, 9, 9)), **other)
    return {
        "claim": archive(shape=b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + claim.ljust(117) + b"\n", **other),
        "cut": whole[:100] + bytes(300) + whole[400:],
        "nan": archive(shape=np.full((2, 4, 4, 4), np.nan), **other),
    }


@pytest.mark.parametrize("content", damaged_baselines().values(), ids=damaged_baselines())
def test_a_baseline_that_claims_is_cut_or_not_finite_is_one_line(tmp_path, content):
    (tmp_path / "baseline.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"baseline.npz: is not the baseline of this model .*; download") as caught:
        Baseline.load(tmp_path / "baseline.npz", 3, 2)
    assert "\n" not in str(caught.value)
