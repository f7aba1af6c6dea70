import numpy as np
import pytest
from scipy import ndimage

from cphloc.data.pipeline.phantom import Scene, draw_phantom
from cphloc.errors import InputError
from cphloc.structures.boxes import boxes_of

SCENES = [
    Scene((80, 80), (1.0, 1.0), objects=(1, 3), diameter_mm=(10, 14)),
    Scene((96, 80), (0.5, 1.0), "mammogram", objects=(1, 3), diameter_mm=(8, 10)),
    Scene((20, 64, 64), (3.0, 1.0, 1.0), objects=(1, 3), diameter_mm=(12, 16)),
]
each_scene = pytest.mark.parametrize("scene", SCENES, ids=["ct 2d", "mammogram 2d", "ct 3d"])


@each_scene
def test_same_seed_same_case_other_seed_another(scene):
    first, again, other = (draw_phantom(scene, True, seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.mask, again.mask)
    assert not np.array_equal(first.mask, other.mask)


@each_scene
def test_objects_are_as_many_and_as_large_as_asked(scene):
    counts, sizes = [], []
    for seed in range(12):
        boxes, _ = boxes_of(draw_phantom(scene, True, seed).mask)
        dims = len(scene.size)
        counts.append(len(boxes))
        sizes.append((boxes[:, dims:] - boxes[:, :dims]) * scene.spacing_mm)
    assert set(counts) <= {1, 2, 3}
    assert len(set(counts)) > 1
    low, high = scene.diameter_mm
    slack = 2 * np.array(scene.spacing_mm)
    extents = np.concatenate(sizes)
    assert (extents <= high + slack).all()
    assert (extents >= 0.8 * low - slack).all()


@each_scene
def test_objects_stand_out_and_distractors_are_no_objects(scene):
    drawn = draw_phantom(scene, True, seed=3)
    empty = draw_phantom(scene, False, seed=3)
    tissue = np.median(drawn.image[(drawn.mask == 0) & (drawn.image > drawn.image.min() + 500)])
    deviation = 15 if scene.modality == "ct" else 150
    assert drawn.image[drawn.mask > 0].mean() > tissue + 2 * deviation
    assert not empty.mask.any()
    assert not empty.region.any()


def test_mask_of_a_sphere_has_its_volume():
    scene = Scene((40, 80, 80), (2.0, 1.0, 1.0), objects=(1, 1), diameter_mm=(20, 20), distractors=(0, 0))
    volumes = [draw_phantom(scene, True, seed).mask.sum() * 2.0 for seed in range(10)]
    sphere = 4 / 3 * np.pi * 10**3
    # Each semi-axis is drawn from 0.8 to 1 of the radius.
    assert (np.array(volumes) < 1.02 * sphere).all()
    assert np.mean(volumes) == pytest.approx(0.9**3 * sphere, rel=0.1)


@pytest.mark.parametrize("modality", ["ct", "mammogram"])
def test_sides_are_left_where_columns_are_high(modality):
    scene = Scene((64, 128), (1.0, 1.0), modality, (2, 2), (6, 8), sides=True)
    for seed in range(8):
        drawn = draw_phantom(scene, True, seed)
        boxes, classes = boxes_of(drawn.mask)
        left = (boxes[:, 1] + boxes[:, 3]) / 2 >= 64
        assert classes.tolist() == np.where(left, 1, 2).tolist()
        assert drawn.region[drawn.mask > 0].all()


def test_says_when_objects_do_not_fit():
    with pytest.raises(InputError, match=r"no room for an object of 50 to 50 mm among 0 others"):
        draw_phantom(Scene((32, 32), (1.0, 1.0), diameter_mm=(50, 50)), True, 0)


@pytest.mark.parametrize("size", [(64, 64), (16, 48, 48)])
def test_a_prior_scan_lacks_the_objects_of_the_mask_and_shows_all_others(size):
    """The two scans differ by noise everywhere, and by the contrast of the objects in the mask alone."""
    scene = Scene(size, (1.0,) * len(size), objects=(2, 2), diameter_mm=(6.0, 8.0), distractors=(0, 0))
    changed = []
    for seed in range(8):
        drawn = draw_phantom(scene, positive=True, seed=seed, prior=True)
        difference = drawn.image.astype(float) - drawn.prior
        changed.append(difference[drawn.mask > 0].mean() if drawn.mask.any() else np.nan)
        assert abs(difference[ndimage.binary_dilation(drawn.mask, iterations=3) == 0].mean()) < 1
    assert np.nanmin(changed) > 2 * 15
    assert 0 < np.isnan(changed).sum() < 8, "in some images no object is new"


def test_asking_for_a_prior_scan_is_the_only_thing_that_changes_a_phantom():
    scene = Scene((32, 32), (1.0, 1.0), objects=(1, 1), diameter_mm=(6.0, 8.0))
    assert draw_phantom(scene, positive=True, seed=0).prior is None


@pytest.mark.parametrize("size", [(64, 64), (16, 48, 48)])
def test_touching_objects_are_told_apart_by_their_instances(size):
    scene = Scene(size, (1.0,) * len(size), objects=(6, 6), diameter_mm=(7.0, 10.0), distractors=(0, 0))
    drawn = [draw_phantom(scene, positive=True, seed=seed, touching=True) for seed in range(4)]
    assert all(each.instances.max() == 6 and np.array_equal(each.instances > 0, each.mask > 0) for each in drawn)
    pieces = [ndimage.label(each.mask, np.ones((3,) * len(size)))[1] for each in drawn]
    assert np.mean(pieces) < 4
