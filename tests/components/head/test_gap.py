from __future__ import annotations

import numpy as np
import pytest
import torch

from cphloc.components.head.gap import GlobalAveragePool
from cphloc.ops.cam import grad_cam
from cphloc.ops.targets import Targets
from cphloc.structures.annotation import Annotation
from cphloc.structures.levels import Level


@pytest.mark.parametrize("grid", [(4, 6), (2, 4, 6)])
def test_logit_is_the_mean_of_its_map_and_attention_the_positive_map_of_the_likeliest_class(grid):
    torch.manual_seed(0)
    head = GlobalAveragePool((Level(5, (4,) * len(grid)),), classes=["benign", "malignant"])
    features = torch.randn(3, 5, *grid, requires_grad=True)
    outputs = head((features,))
    torch.testing.assert_close(outputs.maps.flatten(2).mean(2) + head.linear.bias, outputs.logits)
    prediction = head.decode(outputs)
    torch.testing.assert_close(prediction.attention.flatten(1).sum(1), torch.ones(3))
    for n, c in enumerate(outputs.logits.argmax(1).tolist()):
        shown = grad_cam(features, outputs.logits[:, c])[n]
        torch.testing.assert_close(prediction.attention[n], shown / shown.sum())


def test_only_known_labels_count():
    head = GlobalAveragePool((Level(5, (4, 4)),), classes=["benign", "malignant"])
    outputs = head((torch.randn(2, 5, 3, 3),))
    unknown = Targets.collate([Annotation(), Annotation()], (12, 12), 2)
    assert head.loss(outputs, unknown)["label"].item() == 0
    half_known = Targets.collate([Annotation(label=np.array([1, np.nan], np.float32)), Annotation()], (12, 12), 2)
    expected = -torch.nn.functional.logsigmoid(outputs.logits[0, 0])
    torch.testing.assert_close(head.loss(outputs, half_known)["label"], expected)
