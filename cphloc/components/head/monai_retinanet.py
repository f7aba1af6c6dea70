"""MONAI's RetinaNet with its ResNet, anchors and windows, whole, for imported weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, Literal

from torch import Tensor

from cphloc.config.argument_types import FractionBelowOne, Plain, PositiveFloat, PositiveInt, UnitInterval
from cphloc.errors import InputError, needs
from cphloc.ops.whole_detector import DetectorOutput, WholeDetector
from cphloc.structures.levels import Levels

ResNet = Literal["resnet10", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnet200"]
"""Functions of `monai.networks.nets.resnet`."""


class MonaiRetinaNet(WholeDetector):
    """A RetinaNet of MONAI that predicts whole images with its own windows, on the ``identity`` backbone.

    It only predicts with imported weights; it has no loss.

    Args:
        levels: the image as the only level, set when the model is built.
        classes: foreground classes, ``{1: nodule}`` or ``[nodule]``; class 1 is MONAI's label 0.
        resnet: function of ``monai.networks.nets.resnet`` that makes the network below the pyramid.
        resnet_arguments: its arguments besides ``spatial_dims`` and ``n_input_channels``.
        returned_layers: layers of the ResNet, from 1 to 4, of which the pyramid is made; a coarser one is added.
        anchor_shapes: lengths of each anchor along the axes, in voxels, at the finest level.
        anchor_scales: factor of the anchors at each level.
        size_divisible: images are padded to multiples of it, one per axis.
        window: size of a window per axis; smaller images are predicted at once. ``None``: all images.
        overlap: fraction of a window that overlaps with the next one.
        weight: weights of the voxels of a window, MONAI's ``mode``.
        score_threshold: boxes with a lower score are dropped.
        nms_threshold: boxes of one class whose IoU exceeds this value are treated as duplicates.
        pre_nms_topk: largest number of boxes of a level before duplicates are dropped.
        detections: largest number of boxes per image.

    Raises:
        MissingExtraError: MONAI is not installed.
        InputError: the backbone is not ``identity``, or MONAI refuses the arguments.

    Reference: Cardoso et al. 2022, MONAI, arXiv:2211.02701; Lin et al. 2017, arXiv:1708.02002.
    """

    def __init__(
        self,
        levels: Levels,
        classes: Mapping[int, str] | Sequence[str],
        resnet: ResNet = "resnet50",
        resnet_arguments: Mapping[str, Plain] | None = None,
        returned_layers: Sequence[PositiveInt] = (1, 2, 3),
        anchor_shapes: Sequence[Sequence[PositiveFloat]] = ((32.0, 32.0, 32.0),),
        anchor_scales: Sequence[PositiveFloat] = (1.0, 2.0, 4.0, 8.0),
        size_divisible: PositiveInt | Sequence[PositiveInt] = 1,
        window: Sequence[PositiveInt] | None = None,
        overlap: FractionBelowOne = 0.25,
        weight: Literal["constant", "gaussian"] = "constant",
        score_threshold: UnitInterval = 0.05,
        nms_threshold: UnitInterval = 0.5,
        pre_nms_topk: PositiveInt = 1000,
        detections: PositiveInt = 300,
    ) -> None:
        super().__init__(classes)
        if len(levels) != 1 or set(levels[0].stride) != {1}:
            msg = "monai_retinanet takes the image itself; use backbone: {type: identity}"
            raise InputError(msg)
        dims, channels = levels[0].dims, levels[0].channels
        with needs("head 'monai_retinanet'"):
            from monai.apps.detection.networks import retinanet_detector, retinanet_network
            from monai.apps.detection.utils.anchor_utils import AnchorGeneratorWithAnchorShape
            from monai.networks.nets import resnet as resnets
        given = dict(resnet_arguments or {})
        try:
            made = getattr(resnets, resnet)(spatial_dims=dims, n_input_channels=channels, **given)
            pyramid = retinanet_network.resnet_fpn_feature_extractor(made, dims, False, returned_layers, None)
            network = retinanet_network.RetinaNet(
                dims, max(self.classes), len(anchor_shapes), pyramid, size_divisible=size_divisible
            )
            anchors = AnchorGeneratorWithAnchorShape(anchor_scales, [list(shape) for shape in anchor_shapes])
            self.detector = retinanet_detector.RetinaNetDetector(network, anchors)
        except (ValueError, TypeError, AssertionError, KeyError, IndexError) as error:
            msg = f"monai_retinanet: MONAI refuses its arguments ({error}); correct them"
            raise InputError(msg) from error
        self.detector.set_target_keys(box_key="boxes", label_key="labels")
        self.detector.set_box_selector_parameters(score_threshold, pre_nms_topk, nms_threshold, detections)
        self.window = window
        if window is not None:
            self.detector.set_sliding_window_inferer(list(window), 1, overlap, weight)
        self.train(False)

    def forward(self, pyramid: tuple[Tensor, ...]) -> DetectorOutput:
        """Detect objects in images ``(N, C, *S)``."""
        (images,) = pyramid
        if images.is_meta:
            return self.nothing(images)
        windows = self.window is not None and images[0, 0].numel() >= prod(self.window)
        found: list[dict[str, Any]] = self.detector(list(images), use_inferer=windows)
        # MONAI counts labels from 0, and voxels from the centre of the first one
        return self.gathered(
            [
                {"boxes": one["boxes"] + 0.5, "scores": one["labels_scores"], "labels": one["labels"] + 1}
                for one in found
            ]
        )
