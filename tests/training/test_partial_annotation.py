"""A phantom of which few cases are annotated for every class: what the rule "unknown is not absent" is worth.

Bright and dark squares are two classes. In seven of eight training cases nobody drew the dark ones. Taking them for
background teaches the model that they are; the marginal loss learns them from the eighth case.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cphloc.components.backbone.conv_encoder import ConvEncoder
from cphloc.components.head.unet import UNet
from cphloc.metrics.segmentation import dice
from cphloc.modeling.model import Model
from cphloc.ops.targets import Targets
from cphloc.structures.annotation import Annotation

SIZES = {2: (24, 24), 3: (8, 16, 16)}
CLASSES = {1: "bright", 2: "dark"}
STEPS = 80


def phantom(number, dims):
    """An image with noise, and its mask with one square or cube of each class."""
    rng, size = np.random.default_rng(number), SIZES[dims]
    image, mask = rng.normal(0, 0.3, (1, *size)).astype(np.float32), np.zeros(size, np.uint8)
    for label, value in ((1, 2.0), (2, -2.0)):
        side = 7 if dims == 2 else 5
        where = tuple(slice(low := int(rng.integers(0, n - side + 1)), low + side) for n in size)
        image[(0, *where)] += value
        mask[where] = label
    return image, mask


def annotated(number, mask, unknown_is_absent):
    """The mask as drawn: in seven of eight cases only the bright class."""
    if number % 8 == 0:
        return Annotation(mask=mask)
    known = None if unknown_is_absent else np.array([True, False])
    return Annotation(mask=np.where(mask == 2, 0, mask).astype(np.uint8), mask_known=known)


def trained(dims, unknown_is_absent):
    torch.manual_seed(0)
    backbone = ConvEncoder(1, dims, widths=[8, 16])
    model = Model(backbone, None, {"mask": UNet(backbone.levels, CLASSES)}).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for step in range(STEPS):
        cases = [(n, *phantom(n, dims)) for n in range(8 * step, 8 * step + 8)]
        drawn = [annotated(n, mask, unknown_is_absent) for n, _, mask in cases]
        targets = Targets.collate(drawn, SIZES[dims], len(CLASSES))
        images = torch.from_numpy(np.stack([image for _, image, _ in cases]))
        optimizer.zero_grad()
        model.loss(model.outputs(images), targets)["loss"].backward()
        optimizer.step()
    return model.eval()


@torch.inference_mode()
def mean_dice(model, dims):
    """Mean Dice of each class over eight new images."""
    cases = [phantom(1000 + n, dims) for n in range(8)]
    predicted = model(torch.from_numpy(np.stack([image for image, _ in cases]))).argmax(1).numpy()
    return [
        float(np.mean([dice(p, mask, label) for p, (_, mask) in zip(predicted, cases, strict=True)]))
        for label in CLASSES
    ]


@pytest.mark.parametrize("dims", [2, 3])
def test_what_nobody_drew_is_learnt_if_it_counts_as_unknown_and_not_if_it_counts_as_absent(dims):
    absent, unknown = (mean_dice(trained(dims, rule), dims) for rule in (True, False))
    for rule, found in (("absent", absent), ("unknown", unknown)):
        print(f"{dims}-D, not drawn counts as {rule}: Dice of bright {found[0]:.3f}, of dark {found[1]:.3f}")
    assert absent[0] > 0.8
    assert unknown[0] > 0.8
    assert absent[1] < 0.2
    assert unknown[1] > absent[1] + 0.4
