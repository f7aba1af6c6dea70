"""The systems of ``recipes/systems``: the score that each must reach on its phantom, and within which time."""

from __future__ import annotations

from typing import NamedTuple

SEEDS = ("seed-0", "seed-1", "seed-2")
"""Arms that must reach the score and beat the baseline."""
SHUFFLES = ("shuffled-0", "shuffled-1", "shuffled-2")
"""Arms whose training and validation cases have each other's annotations, in three orders.

What such a network has learned may agree with the truth by chance: one that scores brightness finds bright objects, or
misses them all. So a system fails where it is above its baseline in three orders, and another order is only tried
where it was above in those before.
"""
OF_INTEREST = {"auc": 0.02, "dice": 0.02, "ap50": 0.05, "attention_mass": 0.05}
"""Metric -> smallest effect of interest, that of the studies; a system is above its baseline by more than this."""
CASES = {"train": 200, "val": 20, "test": 60}
"""Cases of the splits, where the recipe names no number of its own."""


class Bar(NamedTuple):
    """What a system must reach.

    Args:
        score: least mean over the seeds of the headline metric on the test split.
        minutes: most CPU minutes of a training on one core, its validations included.
    """

    score: float
    minutes: float


BLIND = Bar(0.70, 4)
"""For networks that must learn every position separately, or that see no direction."""
UNTAUGHT, SIDE = Bar(0.10, 8), Bar(0.30, 8)
"""For attention of which no case says where to look, and of which they say the side; an even map has about 0.02."""
CLASSES, ATTENTION = Bar(0.80, 4), Bar(0.60, 8)
FILLED = Bar(0.35, 8)
"""For attention whose loss is least where it fills the box; of that, 0.52 lies in an ellipsoid."""
BOXES, MASKS = Bar(0.50, 8), Bar(0.70, 8)

SYSTEMS = {
    **dict.fromkeys(("mlp", "gcn"), BLIND),
    **dict.fromkeys(("cnn", "resnet", "text-cnn", "gmp"), CLASSES),
    **dict.fromkeys(("attention", "attention-mse", "attention-per-box", "inflated"), ATTENTION),
    **dict.fromkeys(("attention-bce", "attention-kl", "multi-attention"), FILLED),
    "gap": UNTAUGHT,
    "attention-side": SIDE,
    **dict.fromkeys(("global-box", "dense-box", "yolo", "centernet", "fcos", "retina", "yolox", "soft-nms"), BOXES),
    **dict.fromkeys(("detr", "pyramid-sum", "bifpn", "rcnn", "fast-rcnn", "faster-rcnn"), BOXES),
    **dict.fromkeys(("fcn-stride1", "fcn8", "semantic-fpn", "focal", "boundary"), MASKS),
    **dict.fromkeys(("unet-lecture", "unet2d-phantom", "unet3d-phantom", "residual-encoder", "monai"), MASKS),
    **dict.fromkeys(("attention-unet", "unetplusplus", "manet", "deeplabv3plus", "upernet", "segformer"), MASKS),
    **dict.fromkeys(("mednext", "swin-unetr", "convnext-inflated", "siamese", "projections"), MASKS),
    **dict.fromkeys(("mask-rcnn", "nndetection", "instances", "box-supervised", "cam-seeded", "mean-teacher"), MASKS),
    **dict.fromkeys(("retina-unet", "multitask2d-phantom", "multitask3d-phantom"), MASKS),
}
"""Name of a recipe -> what its system must reach."""
