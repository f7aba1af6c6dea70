"""One minus the overlap of two boxes: IoU, GIoU or DIoU."""

from __future__ import annotations

from torch import Tensor, nn

from cphloc.ops.boxes import Measure, overlap


class BoxIoU(nn.Module):
    """1 - IoU, 1 - GIoU or 1 - DIoU of the predicted and the true box; 0 where they are the same box.

    Args:
        measure: ``iou`` has no gradient where boxes do not touch; ``giou`` and ``diou`` draw them together.

    Shapes:
        predicted and target boxes ``(n, 2 D)`` to ``(n,)`` float32, in [0, 1] for ``iou``, else [0, 2).

    Reference: Rezatofighi et al. 2019, arXiv:1902.09630; Zheng et al. 2020, arXiv:1911.08287.

    >>> import torch
    >>> BoxIoU("giou")(torch.tensor([[-1.0, -1, 1, 1]]), torch.tensor([[0.0, 0, 1, 1]]))
    tensor([0.7500])
    """

    compares = "boxes"
    """What a head hands over: decoded boxes, in voxels."""

    def __init__(self, measure: Measure = "giou") -> None:
        super().__init__()
        self.measure: Measure = measure

    def forward(self, predicted: Tensor, target: Tensor) -> Tensor:
        """Loss of every box."""
        return 1 - overlap(predicted, target, self.measure)
