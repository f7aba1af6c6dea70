import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cphloc.errors import DataError, InputError
from cphloc.structures.annotation import IGNORE, Annotation, Rung, class_names
from cphloc.structures.boxes import boxes_of, mask_of, region_of

SHAPES = {2: (9, 12), 3: (5, 9, 12)}


def two_objects(dims):
    mask = np.zeros(SHAPES[dims], np.uint8)
    mask[(slice(1, 3),) * dims] = 1
    mask[(slice(4, 5),) * (dims - 1) + (slice(6, 9),)] = 2
    return mask


@pytest.mark.parametrize("dims", [2, 3])
def test_a_mask_gives_every_weaker_rung(dims):
    done = Annotation(mask=two_objects(dims)).completed(SHAPES[dims], classes=3)
    assert done.boxes.tolist() == [[1.0] * dims + [3.0] * dims, [4.0] * (dims - 1) + [6.0] + [5.0] * (dims - 1) + [9.0]]
    assert done.box_classes.tolist() == [1, 2]
    assert np.array_equal(done.region, (done.mask > 0).astype(np.float32))
    assert done.label.tolist() == [1.0, 1.0, 0.0]


@pytest.mark.parametrize("dims", [2, 3])
def test_what_is_absent_has_no_voxel_and_no_box(dims):
    """A label without a finding, an empty list of boxes and a class of which there is no box are used by every head."""
    shape, label = SHAPES[dims], np.array([0.0, 1.0, np.nan], np.float32)
    by_label = Annotation(label=label).completed(shape, 3)
    assert not by_label.mask.any()
    assert by_label.boxes.shape == (0, 2 * dims)
    assert by_label.mask_known.tolist() == by_label.boxes_known.tolist() == [True, False, False]
    box = np.array([[0.0] * dims + [2.0] * dims])
    by_boxes = Annotation(boxes=box, box_classes=np.array([2])).completed(shape, 3)
    assert not by_boxes.mask.any()
    assert by_boxes.mask_known.tolist() == [True, False, True]
    assert by_boxes.boxes_known.all()
    assert Annotation(boxes=box, box_classes=np.array([2])).completed(shape, 3, up_to=Rung.BOXES).mask is None
    only_label = Annotation(label=label).completed(shape, 3, up_to=Rung.LABEL)
    assert only_label.mask is only_label.boxes is None


@pytest.mark.parametrize("dims", [2, 3])
def test_a_class_that_was_not_looked_for_is_unknown(dims):
    known = np.array([True, False, True])
    done = Annotation(mask=two_objects(dims), mask_known=known).completed(SHAPES[dims], 3)
    assert done.box_classes.tolist() == [1]
    assert np.array_equal(done.mask, np.where(two_objects(dims) == 1, 1, 0))
    assert done.region is None
    np.testing.assert_array_equal(done.label, [1.0, np.nan, 0.0])
    with pytest.raises(DataError, match="mask_known has shape"):
        Annotation(mask=two_objects(dims), mask_known=known).completed(SHAPES[dims], 2)


def test_a_weaker_rung_never_gives_a_stronger_one():
    shape = (4, 4)
    boxes = Annotation(boxes=np.array([[0.0, 0, 2, 2]]), box_classes=np.array([1])).completed(shape, 1)
    region = Annotation(region=np.ones(shape, np.float32)).completed(shape, 1)
    label = Annotation(label=np.array([1.0], np.float32)).completed(shape, 1)
    assert boxes.mask is None
    assert region.mask is region.boxes is None
    assert label.mask is label.boxes is label.region is None
    assert [a.rung for a in (boxes, region, label, Annotation())] == [Rung.BOXES, Rung.REGION, Rung.LABEL, None]


def test_boxes_become_the_mask_of_the_lectures_scan_and_come_back():
    shape = (200, 512, 512)
    boxes = np.array([[10, 20, 30, 40, 60, 90], [100, 300, 200, 150, 400, 512]], np.float32)
    mask = mask_of(boxes, np.array([1, 1]), shape)
    assert mask.shape == shape
    assert mask.sum() == 30 * 40 * 60 + 50 * 100 * 312
    assert np.array_equal(boxes_of(mask)[0], boxes)
    assert not mask_of(np.zeros((0, 6), np.float32), np.zeros(0, np.int64), shape).any()


def test_no_object_is_not_the_same_as_nobody_looked():
    empty = Annotation(boxes=np.zeros((0, 4)), box_classes=np.zeros(0, int)).completed((4, 4), 2)
    assert empty.label.tolist() == [0.0, 0.0]
    assert empty.boxes.shape == (0, 4)
    assert not empty.region.any()


def test_what_was_stated_stays():
    stated = np.array([0.0, np.nan], np.float32)
    done = Annotation(mask=two_objects(2), label=stated).completed(SHAPES[2], 2)
    assert done.label is stated


@pytest.mark.parametrize("dims", [2, 3])
def test_completing_twice_is_completing_once(dims):
    once = Annotation(mask=two_objects(dims)).completed(SHAPES[dims], 2)
    twice = once.completed(SHAPES[dims], 2)
    for name in ("mask", "boxes", "box_classes", "region", "label", "mask_known", "boxes_known"):
        assert np.array_equal(getattr(once, name), getattr(twice, name))


@given(
    st.integers(2, 3).flatmap(
        lambda dims: st.lists(st.tuples(st.integers(0, 5), st.integers(1, 5)), min_size=dims, max_size=dims)
    )
)
def test_integer_box_to_mask_and_back_is_the_identity(spans):
    box = np.array([[a for a, _ in spans] + [a + n for a, n in spans]], float)
    boxes, classes = boxes_of(mask_of(box, [1], (11,) * len(spans)))
    assert boxes.tolist() == box.tolist()
    assert classes.tolist() == [1]


def test_no_boxes_give_an_empty_mask_and_region():
    assert not mask_of(np.zeros((0, 6)), [], (3, 4, 5)).any()
    assert not region_of(np.zeros((0, 6)), (3, 4, 5)).any()


def test_two_identical_boxes_cover_like_one():
    box = np.array([[0.5, 1.0, 2.0, 3.25]])
    assert np.array_equal(region_of(np.repeat(box, 2, axis=0), (4, 4)), region_of(box, (4, 4)))
    assert region_of(box, (4, 4)).sum() == pytest.approx(1.5 * 2.25)


def test_diagonal_neighbours_are_one_object():
    mask = np.zeros((2, 2, 2), np.uint8)
    mask[0, 0, 0] = mask[1, 1, 1] = 1
    assert boxes_of(mask)[0].tolist() == [[0, 0, 0, 2, 2, 2]]


def test_boxes_outside_the_image_are_clipped_and_lost_ones_removed():
    boxes = np.array([[-2.0, -2, 2, 2], [20, 20, 22, 22]])
    done = Annotation(boxes=boxes, box_classes=np.array([1, 1])).completed((4, 4), 1)
    assert done.boxes.tolist() == [[0, 0, 2, 2]]


def test_voxels_nobody_annotated_are_no_object():
    mask = np.full((3, 3), IGNORE, np.uint8)
    done = Annotation(mask=mask).completed((3, 3), 1)
    assert len(done.objects[0]) == 0
    assert done.boxes_known.tolist() == [False]
    assert np.isnan(done.label).all()
    assert done.region is None


@pytest.mark.parametrize(
    ("annotation", "said"),
    [
        (Annotation(mask=np.zeros((2, 2), np.uint8)), r"mask has shape \(2, 2\)"),
        (Annotation(mask=np.full((4, 4), 3, np.uint8)), "holds class 3"),
        (Annotation(boxes=np.array([[2.0, 2, 1, 3]]), box_classes=np.array([1])), "upper corner below"),
        (
            Annotation(boxes=np.array([[0.0, 0, 1, 1], [0.0, 3, 1, 2]]), box_classes=np.array([1, 1])),
            r"box \[0\.0, 3\.0, 1\.0, 2\.0\] has an upper corner below",
        ),
        (Annotation(boxes=np.array([[0.0, 0, 1, 1]])), "need one class each"),
        (Annotation(boxes=np.array([[0.0, 0, 1, 1]] * 2), box_classes=np.array([1])), "need one class each"),
        (Annotation(boxes=np.array([[0.0, 0, 1, 1]]), box_classes=np.array([0])), "box classes must be"),
    ],
)
def test_a_wrong_annotation_is_named(annotation, said):
    with pytest.raises(DataError, match=said):
        annotation.completed((4, 4), classes=2)


def test_classes_are_numbered_from_one():
    assert class_names(["a", "b"]) == {1: "a", 2: "b"}
    assert list(class_names({2: "b", 1: "a"}).items()) == [(1, "a"), (2, "b")]


@pytest.mark.parametrize("classes", [{1: "a", 3: "b"}, {0: "a"}, {"1": "a"}, []])
def test_classes_with_other_numbers_are_refused(classes):
    with pytest.raises(InputError, match="numbered 1, 2"):
        class_names(classes)


def test_two_classes_of_one_name_are_refused():
    with pytest.raises(InputError, match="distinct names"):
        class_names(["a", "a"])


def test_a_text_is_no_list_of_classes():
    with pytest.raises(InputError, match=r"classes must be a list, got the text RBC; write \[RBC\]"):
        class_names("RBC")


def test_a_region_gives_the_label_of_a_single_class_only():
    region = np.zeros((4, 4), np.float32)
    assert Annotation(region=region).completed((4, 4), 1).label.tolist() == [0.0]
    region[1, 2] = 1
    assert Annotation(region=region).completed((4, 4), 1).label.tolist() == [1.0]
    assert Annotation(region=region).completed((4, 4), 2).label is None


@pytest.mark.parametrize("dims", [2, 3])
def test_a_crop_keeps_what_lies_inside_in_its_own_coordinates(dims):
    mask = two_objects(dims)
    boxes, box_classes = boxes_of(mask)
    whole = Annotation(mask=mask, boxes=boxes, box_classes=box_classes, region=(mask > 0).astype(np.float32))
    start, size = (2,) * (dims - 1) + (1,), (3,) * (dims - 1) + (6,)
    part = whole.cropped(start, size)
    inside = tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))
    assert np.array_equal(part.mask, mask[inside])
    assert np.array_equal(part.region, mask[inside] > 0)
    assert part.box_classes.tolist() == [1, 2]
    low, high = [0.0] * dims, [1.0] * (dims - 1) + [2.0]  # voxels 1 to 3 of the first object, from voxel 2 or 1 on
    assert part.boxes[0].tolist() == low + high
    assert part.boxes[1].tolist() == [2.0] * (dims - 1) + [5.0] + [3.0] * (dims - 1) + [6.0]  # 6 to 9, until voxel 7
    assert whole.cropped((0,) * dims, (3,) * dims).box_classes.tolist() == [1]


def test_the_label_of_a_part_says_only_what_is_absent():
    label = np.array([0.0, 1.0], np.float32)
    image = Annotation(label=label)
    assert image.label_of_part(whole=True) is label
    assert np.array_equal(image.label_of_part(whole=False), [0.0, np.nan], equal_nan=True)
    assert Annotation(label=np.ones(2, np.float32)).label_of_part(whole=False) is None
    assert Annotation().label_of_part(whole=False) is None
    assert Annotation(mask=np.zeros((2, 2)), label=label).label_of_part(whole=False) is None
    boxes = Annotation(boxes=np.zeros((0, 4)), box_classes=np.zeros(0, int), label=label)
    assert boxes.label_of_part(whole=False) is None
    assert boxes.label_of_part(whole=True) is label


def test_a_crop_keeps_the_label_only_where_it_says_that_a_class_is_absent():
    part = Annotation(label=np.array([0.0, 1.0], np.float32)).cropped((1, 1), (2, 2))
    assert np.array_equal(part.label, [0.0, np.nan], equal_nan=True)
