from types import SimpleNamespace

import numpy as np
import pytest

from cphloc.components.backbone.conv_encoder import ConvEncoder
from cphloc.components.head.unet import UNet
from cphloc.components.loss.dice_ce import DiceCE
from cphloc.errors import InputError
from cphloc.modeling.model import Model
from cphloc.structures.annotation import Annotation
from cphloc.structures.merging import Merging
from cphloc.training.class_balance import balance_losses, frequencies

CLASSES = {1: "a", 2: "b"}


def case(mask, known=None):
    """A mask of 10 voxels in a row, for 2-D and 3-D alike."""
    image = np.zeros((1, *mask.shape), np.float32)
    return SimpleNamespace(image=image, annotation=Annotation(mask=mask, mask_known=known))


def masks(dims):
    shape = (10, 1, 1)[:dims]
    first = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 2], np.uint8).reshape(shape)
    second = np.array([0, 0, 0, 0, 0, 255, 255, 255, 255, 2], np.uint8).reshape(shape)  # 'a' was not looked for
    return [case(first), case(second, np.array([False, True]))]


def model(dims, classes, mergings=None):
    backbone = ConvEncoder(1, dims, widths=[2, 4])
    head = UNet(backbone.levels, classes, loss=DiceCE(class_weights="balanced"))
    return Model(backbone, None, {"mask": head}, mergings=mergings)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_class_counts_where_it_was_looked_for(dims):
    a, b = 3 / 10, 2 / 16
    shares = [1 - a - b, a, b]
    assert frequencies([c.annotation for c in masks(dims)], 2) == pytest.approx(shares)
    made = model(dims, CLASSES)
    balance_losses(made, masks(dims), CLASSES)
    weights = made.heads["mask"].criterion.cross_entropy.class_weights.values
    assert weights.tolist() == pytest.approx([1 / (3 * share) for share in shares])


def test_merged_classes_are_counted_as_one():
    made = model(2, {1: "any"}, {"mask": Merging({1: "any"}, {1: CLASSES})})
    balance_losses(made, masks(2), CLASSES)
    weights = made.heads["mask"].criterion.cross_entropy.class_weights.values
    assert weights.tolist() == pytest.approx([1 / (2 * 0.6), 1 / (2 * 0.4)])  # of the first case alone


def test_without_any_mask_it_is_an_error():
    empty = SimpleNamespace(image=np.zeros((1, 4, 4), np.float32), annotation=Annotation())
    with pytest.raises(InputError, match="balanced needs training cases with a mask; state numbers"):
        balance_losses(model(2, CLASSES), [empty], CLASSES)
