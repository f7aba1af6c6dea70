"""Torchvision's detectors, whole, for imported weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import Tensor, nn

from cphloc.config.argument_types import NonNegativeFloat, PositiveInt, UnitInterval
from cphloc.errors import InputError
from cphloc.ops.whole_detector import DetectorOutput, WholeDetector
from cphloc.structures.levels import Levels

Detector = Literal[
    "retinanet_resnet50_fpn",
    "retinanet_resnet50_fpn_v2",
    "fcos_resnet50_fpn",
    "fasterrcnn_resnet50_fpn",
    "fasterrcnn_resnet50_fpn_v2",
    "fasterrcnn_mobilenet_v3_large_fpn",
    "fasterrcnn_mobilenet_v3_large_320_fpn",
]
"""Names of `torchvision.models.detection` that can be built."""


class TorchvisionDetector(WholeDetector):
    """A detector of torchvision with its own backbone and scaling of images, on the ``identity`` backbone.

    It takes pictures of three channels with values from 0 to 1, and normalizes and scales them itself. It only predicts
    with imported weights; it has no loss.

    Args:
        levels: the image as the only level, set when the model is built.
        classes: foreground classes, ``{1: nodule}`` or ``[nodule]``, by torchvision's labels.
        name: function of ``torchvision.models.detection``.
        shortest: pictures are scaled to this length of their shorter side, in pixels.
        longest: but not beyond this length of their longer side.
        score_threshold: boxes with a lower score are dropped.
        nms_threshold: boxes of one class whose IoU exceeds this value are treated as duplicates.
        detections: largest number of boxes per image.
        norm_eps: added to the variance by the batch norms; torchvision's first COCO weights need 0.

    Raises:
        InputError: the backbone is not ``identity``, or the pictures have not three channels.

    Reference: torchvision, https://pytorch.org/vision/stable/models.html; Lin et al. 2017, arXiv:1708.02002; Tian et
    al. 2019, arXiv:1904.01355; Ren et al. 2015, arXiv:1506.01497.

    >>> import torch
    >>> from cphloc.structures.levels import Level
    >>> name = "fasterrcnn_mobilenet_v3_large_320_fpn"
    >>> head = TorchvisionDetector((Level(3, (1, 1)),), classes=["cell"], name=name, shortest=64, longest=64).eval()
    >>> len(head.decode(head((torch.zeros(1, 3, 64, 64),))).detections)
    1
    """

    def __init__(
        self,
        levels: Levels,
        classes: Mapping[int, str] | Sequence[str],
        name: Detector,
        shortest: PositiveInt = 800,
        longest: PositiveInt = 1333,
        score_threshold: UnitInterval = 0.05,
        nms_threshold: UnitInterval = 0.5,
        detections: PositiveInt = 100,
        norm_eps: NonNegativeFloat = 1e-5,
    ) -> None:
        super().__init__(classes)
        if len(levels) != 1 or levels[0] != type(levels[0])(3, (1, 1)):
            msg = "torchvision_detector takes pictures of three channels; use backbone: {type: identity} and 3 channels"
            raise InputError(msg)
        from torchvision.models import get_model

        box = "box_" if name.startswith("fasterrcnn") else ""
        limits = {"score_thresh": score_threshold, "nms_thresh": nms_threshold, "detections_per_img": detections}
        self.network: nn.Module = get_model(
            name,
            weights=None,
            weights_backbone=None,
            num_classes=max(self.classes) + 1,
            min_size=shortest,
            max_size=longest,
            **{f"{box}{key}": value for key, value in limits.items()},
        )
        for layer in self.network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.eps = norm_eps
        self.train(False)

    def forward(self, pyramid: tuple[Tensor, ...]) -> DetectorOutput:
        """Detect objects in pictures ``(N, 3, H, W)``."""
        (images,) = pyramid
        if images.is_meta:
            return self.nothing(images)
        found: list[dict[str, Any]] = self.network(list(images))
        turned = [{**one, "boxes": one["boxes"][:, [1, 0, 3, 2]]} for one in found]
        return self.gathered(turned)  # torchvision never trains label 0, the background
