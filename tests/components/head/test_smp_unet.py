"""Shapes, gradients and masked cases; that it equals the decoder of smp is shown by tests/importing/test_smp.py."""

import numpy as np
import pytest
import torch

from cphloc.components.backbone.conv_encoder import ConvEncoder
from cphloc.components.head.smp_unet import SmpUNet
from cphloc.errors import InputError
from cphloc.modeling.model import Model
from cphloc.ops.targets import Targets
from cphloc.structures.annotation import Annotation

SIZES = {2: (21, 18), 3: (13, 10, 11)}


def model_of(dims, **options):
    backbone = ConvEncoder(1, dims, widths=[4, 6, 8], strides=[2, 2, 2])
    return Model(backbone, None, {"mask": SmpUNet(backbone.levels, ["a", "b"], widths=[6, 5, 4], **options)})


def mask_of(size):
    return np.random.default_rng(0).integers(0, 3, size).astype(np.uint8)


@pytest.mark.parametrize("dims", [2, 3])
def test_logits_have_the_size_of_the_image_even_when_it_is_odd(dims):
    assert model_of(dims).eval()(torch.randn(2, 1, *SIZES[dims])).shape == (2, 3, *SIZES[dims])


@pytest.mark.parametrize("dims", [2, 3])
def test_every_parameter_gets_a_gradient_and_a_case_without_a_mask_none(dims):
    size, model = SIZES[dims], model_of(dims).eval()  # batch statistics would join the cases
    images = torch.randn(2, 1, *size, requires_grad=True)
    targets = Targets.collate([Annotation(mask=mask_of(size)), Annotation(mask=None)], size, classes=2)
    model.loss(model.outputs(images), targets)["loss"].backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
    assert images.grad[0].abs().sum() > 0
    assert images.grad[1].abs().sum() == 0


def test_wrong_widths_and_training_of_overlapping_classes_are_refused():
    backbone = ConvEncoder(1, 2, widths=[4, 6])
    with pytest.raises(InputError, match="2 levels but 3 widths"):
        SmpUNet(backbone.levels, ["a"], widths=[4, 4, 4])
    model = model_of(2, scores="sigmoid").eval()
    targets = Targets.collate([Annotation(mask=mask_of((16, 16)))], (16, 16), classes=2)
    with pytest.raises(InputError, match="only predicts"):
        model.loss(model.outputs(torch.zeros(1, 1, 16, 16)), targets)
