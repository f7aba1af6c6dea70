"""Short training on generated data, for measures that train small models themselves; no run is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from cphloc.metrics.classification import auc
from cphloc.modeling.model import Model
from cphloc.ops.targets import Targets
from cphloc.structures.annotation import Annotation
from cphloc.studies.measured import required

Batch = tuple[Tensor, Sequence[Annotation]]
"""Images ``(N, C, *S)`` and their annotations."""


def learn(model: Model, draw: Callable[[], Batch], steps: int, lr: float = 3e-3) -> Model:
    """Train on freshly drawn batches with AdamW.

    Args:
        model: model to train, changed in place.
        draw: returns a new batch of one class at every call.
        steps: number of batches.
        lr: learning rate.

    Returns:
        the trained model in evaluation mode.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr)
    for _ in range(steps):
        images, annotations = draw()
        targets = Targets.collate(annotations, tuple(images.shape[2:]), classes=1)
        optimizer.zero_grad()
        model.loss(model.outputs(images), targets)["loss"].backward()
        optimizer.step()
    return model.eval()


def auc_of(model: Model, batch: Batch) -> float:
    """Compute the AUC of a model with one head and one class on a batch."""
    images, annotations = batch
    size = tuple(images.shape[2:])
    labels = np.array([required(a.completed(size, classes=1).label, "labels")[0] for a in annotations])
    with torch.no_grad():
        return auc(model(images).logits[:, 0].numpy(), labels)
