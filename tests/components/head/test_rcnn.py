from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from cphloc.components.head.rcnn import RCNN
from cphloc.ops.roi_align import roi_align
from cphloc.structures.levels import Level


@pytest.mark.parametrize("dims", [2, 3])
def test_each_region_is_cut_with_context_and_seen_by_itself(dims):
    head = RCNN((Level(1, (1,) * dims),), classes=["a"], crop=8, context=2, widths=[4]).eval()
    image = torch.randn(1, 1, *[24] * dims)
    boxes = torch.tensor([[4.0] * dims + [10.0] * dims, [12.0] * dims + [20.0] * dims])
    together = head.describe((image,), [boxes])
    assert_close(together[1:], head.describe((image,), [boxes[1:]]))
    grown = torch.tensor([[2.0] * dims + [12.0] * dims])
    crop = roi_align(image, [grown], (1,) * dims, (8,) * dims)
    assert_close(together[:1], head.network(crop).flatten(2).mean(dim=2))
