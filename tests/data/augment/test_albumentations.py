import inspect

import numpy as np
import pytest
from scipy import ndimage

from cphloc.data.augment.augmentation import Augmentation
from cphloc.errors import InputError
from cphloc.registry import catalogue
from cphloc.structures.annotation import Annotation
from cphloc.structures.boxes import boxes_of

CARDS = {name: card for name, card in catalogue.cards("transform").items() if not card.import_}
DISTORTIONS = ("GridDistortion", "OpticalDistortion", "Perspective", "ThinPlateSpline")
SHAPES = {"2d colour": (3, 48, 48), "3d": (1, 5, 48, 48)}


def _case(shape):
    image = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=shape), (0, *(2,) * (len(shape) - 1)))
    mask = np.zeros(shape[1:], np.uint8)
    mask[(..., slice(12, 22), slice(24, 40))] = 1
    image[:, mask > 0] += 3
    boxes = boxes_of(mask)[0]
    return image.astype(np.float32) * 100 - 50, Annotation(mask, boxes, np.array([1]), mask.astype(np.float32))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("name", CARDS)
def test_every_allowed_transform_works_and_repeats_by_seed(name, shape):
    image, annotation = _case(shape)
    augmentation = Augmentation([{"type": name, "p": 1.0}], len(shape) - 1)
    out, moved = augmentation.apply(image, annotation, np.random.default_rng(3))
    again, _ = augmentation.apply(image, annotation, np.random.default_rng(3))
    assert out.shape == image.shape
    assert np.isfinite(out).all()
    assert -1000 < out.min() <= out.max() < 1000
    np.testing.assert_array_equal(out, again)
    assert moved.mask.shape == shape[1:]
    np.testing.assert_allclose(moved.region, moved.mask, atol=0.01)
    if name in DISTORTIONS:
        np.testing.assert_allclose(moved.boxes, boxes_of(moved.mask)[0], atol=2.6)
    else:
        np.testing.assert_array_equal(moved.mask, annotation.mask)


def test_distortion_is_the_same_in_every_slice():
    image = np.repeat(_case((1, 1, 48, 48))[0], 4, axis=1)
    augmentation = Augmentation([{"type": "GridDistortion", "distort_limit": [0.3, 0.3], "p": 1}], 3)
    out, _ = augmentation.apply(image, Annotation(), np.random.default_rng(0))
    assert not np.array_equal(out, image)
    np.testing.assert_array_equal(out, np.repeat(out[:, :1], 4, axis=1))


def test_table_states_the_arguments_and_defaults_of_albumentations():
    import albumentations

    for name, card in CARDS.items():
        real = inspect.signature(getattr(albumentations, name)).parameters
        for argument in catalogue.arguments(card):
            default = real[argument.name].default
            assert argument.default == (list(default) if isinstance(default, tuple) else default), (name, argument)


def test_refused_arguments_are_one_clear_line():
    with pytest.raises(InputError, match=r"augmentation Posterize: albumentations rejects \{'num_bits': 99\}") as error:
        Augmentation([{"type": "Posterize", "num_bits": 99}], 2)
    assert "\n" not in str(error.value)


def test_a_wrong_type_is_one_clear_line(monkeypatch):
    def refuse(**arguments):
        msg = "num_bits must be\na number"
        raise TypeError(msg)

    monkeypatch.setattr("albumentations.Posterize", refuse)
    with pytest.raises(
        InputError, match=r"augmentation Posterize: albumentations rejects .*num_bits must be a number$"
    ):
        Augmentation([{"type": "Posterize", "num_bits": 4}], 2)
