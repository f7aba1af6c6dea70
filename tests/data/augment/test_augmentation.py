import numpy as np
import pytest

from cphloc.data.augment.augmentation import Augmentation, swap_classes
from cphloc.errors import InputError, NotFoundError
from cphloc.registry import catalogue
from cphloc.structures.annotation import Annotation

DIMS = [2, 3]
OURS = [name for name, card in catalogue.cards("transform").items() if card.import_]
SPATIAL = ("Affine", "Elastic", "Flip")


def _drawn(blocks, dims, seed, laterality=False):
    size = (24,) * dims
    rng = np.random.default_rng(seed)
    augmentation = Augmentation(blocks, dims, laterality)
    drawn = augmentation.draw(rng, size, (1.0,) * dims)
    image = np.random.default_rng(9).normal(size=(1, *size)).astype(np.float32)
    return drawn, augmentation.apply(image, Annotation(), rng)[0]


@pytest.mark.parametrize("dims", DIMS)
@pytest.mark.parametrize("name", OURS)
def test_same_seed_same_result_other_seed_another(name, dims):
    block = [{"type": name, "p": 1.0 if name != "Flip" else 0.5}]
    (first, image), (again, image_again), (other, image_other) = (_drawn(block, dims, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.warp.matrix, again.warp.matrix)
    np.testing.assert_array_equal(image, image_again)
    moved = not np.array_equal(first.warp.matrix, other.warp.matrix) or first.warp.displacement is not None
    assert moved if name in SPATIAL else not np.array_equal(image, image_other)
    assert image.dtype == np.float32
    assert np.isfinite(image).all()


def test_probability_is_kept():
    augmentation = Augmentation([{"type": "Brightness", "shift": [1, 1], "p": 0.3}], 2)
    rng, image = np.random.default_rng(0), np.random.default_rng(1).normal(size=(1, 8, 8)).astype(np.float32)
    changed = [not np.array_equal(augmentation.apply(image, Annotation(), rng)[0], image) for _ in range(1000)]
    assert 0.25 < np.mean(changed) < 0.35


@pytest.mark.parametrize("dims", DIMS)
def test_flip_along_left_right_is_refused_where_classes_name_sides(dims):
    with pytest.raises(InputError, match="would turn left findings into right ones"):
        Augmentation([{"type": "Flip"}], dims, laterality=True)
    Augmentation([{"type": "Flip", "axes": [0]}], dims, laterality=True)


@pytest.mark.parametrize("dims", DIMS)
def test_flip_swaps_sides_exactly_when_it_mirrors_them(dims):
    block = [{"type": "Flip", "swap": {1: 2}}]
    for seed in range(20):
        drawn, _ = _drawn(block, dims, seed, laterality=True)
        assert (drawn.swap is not None) == (drawn.warp.matrix[-1, -1] < 0)


@pytest.mark.parametrize("dims", [2, 3])
def test_sides_mirrored_twice_are_the_sides_they_were(dims):
    """One flip swaps the classes, two do not, three do."""
    flip = {"type": "Flip", "axes": [-1], "swap": {1: 2}, "p": 1.0}
    for count, swapped in ((1, True), (2, False), (3, True)):
        drawn = Augmentation([flip] * count, dims).draw(np.random.default_rng(0), (8,) * dims, (1.0,) * dims)
        assert (drawn.warp.matrix[-1, -1] < 0) == swapped
        assert drawn.swap == ({1: 2, 2: 1} if swapped else None)


def test_classes_swap_in_every_rung():
    annotation = Annotation(
        mask=np.array([[0, 1], [2, 255]], np.uint8),
        boxes=np.zeros((2, 4), np.float32),
        box_classes=np.array([1, 3]),
        label=np.array([1, 0, np.nan], np.float32),
    )
    swapped = swap_classes(annotation, {1: 2, 2: 1})
    assert swapped.mask.tolist() == [[0, 2], [1, 255]]
    assert swapped.box_classes.tolist() == [2, 3]
    np.testing.assert_array_equal(swapped.label, [0, 1, np.nan])


def test_what_is_known_of_a_class_is_swapped_with_it():
    known = Annotation(mask_known=np.array([True, False, False]), boxes_known=np.array([True, True, False]))
    swapped = swap_classes(known, {1: 2, 2: 1})
    assert swapped.mask_known.tolist() == [False, True, False]
    assert swap_classes(known, {1: 3, 3: 1}).boxes_known.tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("block", "error", "message"),
    [
        ({"type": "GausNoise"}, NotFoundError, "unknown transform 'GausNoise'; did you mean 'GaussNoise'"),
        ({"type": "Affine", "angle": 3}, InputError, "transform Affine has no argument 'angle'"),
        ({"type": "Affine", "scale": [0, 1]}, InputError, r"Affine: scale must be \[low, high\] above 0, got \[0, 1\]"),
        ({"type": "Gamma", "gamma": [2, 1]}, InputError, r"Gamma: gamma must be \[low, high\]"),
        ({"type": "Flip", "axes": [2]}, InputError, "Flip: axis 2 does not exist in 2-D"),
        ({"type": "Flip", "axes": [0, 3]}, InputError, "Flip: axis 3 does not exist in 2-D"),
        ({"type": "Flip", "axes": [-3]}, InputError, "Flip: axis -3 does not exist in 2-D"),
        ({"type": "Flip", "swap": {1: 2, 2: 3}}, InputError, "Flip: swap must name each class once"),
    ],
)
def test_mistakes_are_named(block, error, message):
    with pytest.raises(error, match=message):
        Augmentation([block], 2, laterality=True)
