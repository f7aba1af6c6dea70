from __future__ import annotations

import numpy as np
import pytest

from cphloc.structures.annotation import IGNORE, Annotation
from cphloc.structures.boxes import boxes_of
from cphloc.structures.instances import ObjectMask, object_masks, of_instances, painted

SIZE = {2: (9, 11), 3: (5, 9, 11)}


def whole(each, size):
    drawn = np.zeros(size, bool)
    drawn[each.where] = each.inside
    return drawn


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("classes", [2, {3: 1, 7: 2, 400: 1}])
def test_an_instance_mask_gives_a_box_per_object_where_objects_touch(dims, classes):
    instances = np.zeros((6, 8, 10)[:dims], np.int32)
    instances[:3], instances[3:, 0], instances[3:, 1:3] = 3, 7, 400
    found = of_instances(instances, classes)
    rest = (10,)[: dims - 2]
    tight = [[0, 0, 3, 8], [3, 0, 6, 1], [3, 1, 6, 3]]
    assert found.boxes.tolist() == [[*b[:2], *(0,) * len(rest), *b[2:], *rest] for b in tight]
    expected = [2, 2, 2] if classes == 2 else [1, 2, 1]
    assert found.box_classes.tolist() == expected
    assert [int(found.mask[instances == v].min()) for v in (3, 7, 400)] == expected
    assert len(boxes_of(found.mask)[0]) < 3
    assert found.completed(instances.shape, 2).boxes.tolist() == found.boxes.tolist()


def test_an_empty_instance_mask_says_that_there_is_no_object():
    found = of_instances(np.zeros((4, 5), np.uint8), {})
    assert found.boxes.shape == (0, 4)
    assert not found.mask.any()


def test_an_instance_mask_may_leave_no_background():
    found = of_instances(np.array([[3, 7], [3, 7]]), {3: 2, 7: 1})
    assert found.mask.tolist() == [[2, 1], [2, 1]]
    assert found.boxes.tolist() == [[0, 0, 2, 1], [0, 1, 2, 2]]
    assert found.box_classes.tolist() == [2, 1]


@pytest.mark.parametrize("dims", [2, 3])
def test_voxels_in_common_are_those_of_the_whole_images(dims):
    rng, size = np.random.default_rng(0), SIZE[dims]
    for _ in range(50):
        objects = []
        for _ in range(2):
            first = tuple(int(rng.integers(0, n - 2)) for n in size)
            shape = tuple(int(rng.integers(1, n - f + 1)) for n, f in zip(size, first, strict=True))
            objects.append(ObjectMask(first, rng.random(shape) < 0.7))
        one, two = objects
        assert one.common(two) == two.common(one) == (whole(one, size) & whole(two, size)).sum()
        assert np.array_equal(painted(objects, size) == 2, whole(two, size) & ~whole(one, size))


@pytest.mark.parametrize("dims", [2, 3])
def test_objects_of_an_annotation_are_its_instances_else_its_class_in_the_box(dims):
    """Two objects of one class touch, in boxes that overlap."""
    size = SIZE[dims]
    instances = np.zeros(size, np.int32)
    instances[..., 1:5, 1:6], instances[..., 4:8, 4:9] = 7, 3
    found = of_instances(instances, classes=1)
    assert [np.array_equal(whole(o, size), instances == v) for o, v in zip(object_masks(found), (3, 7), strict=True)]
    merged = object_masks(Annotation(mask=found.mask, boxes=found.boxes, box_classes=found.box_classes))
    assert whole(merged[1], size).sum() > (instances == 7).sum()
    assert np.array_equal(whole(merged[1], size), (instances > 0) & (boxes_mask(found.boxes[1], size)))


def boxes_mask(box, size):
    low, high = np.split(box.astype(int), 2)
    inside = np.zeros(size, bool)
    inside[tuple(map(slice, low, high))] = True
    return inside


def test_of_a_box_to_ignore_the_voxels_that_are_not_annotated_are_given():
    mask = np.array([[1, IGNORE, IGNORE, 0]], np.uint8)
    crowd = Annotation(mask=mask, boxes=np.array([[0.0, 0, 1, 3]]), box_classes=np.array([-1]))
    assert object_masks(crowd)[0].inside.tolist() == [[False, True, True]]


@pytest.mark.parametrize("dims", [2, 3])
def test_crops_and_completion_keep_the_number_of_each_box(dims):
    instances = np.zeros(SIZE[dims], np.int32)
    instances[..., 0:2, 0:2], instances[..., 6:8, 6:9] = 1, 2
    found = of_instances(instances, classes=1).cropped((*(0,) * (dims - 2), 5, 5), (*SIZE[dims][:-2], 4, 6))
    done = found.completed((*SIZE[dims][:-2], 4, 6), classes=1)
    assert done.box_instances.tolist() == done.object_instances.tolist() == [2]
    assert np.array_equal(object_masks(done)[0].inside, np.ones((*SIZE[dims][:-2], 2, 3), bool))
