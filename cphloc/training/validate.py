"""Validation during training: whole prepared cases, in the model's frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from cphloc.data.cache import PreparedCase
from cphloc.data.prepare import PreparedCases
from cphloc.inference import infer
from cphloc.model import Model
from cphloc.targets import Prediction
from cphloc.training.fit import Validation
from cphloc.training.scores import Found, Scores


class Validator:
    """Predicts every case and scores it; the processes of a distributed training share the cases between them.

    Args:
        cases: prepared cases.
        classes: number 1..K -> name.
        patch: window ``(*S)``; larger cases are predicted window by window.
    """

    def __init__(self, cases: PreparedCases, classes: Mapping[int, str], patch: Sequence[int] | None) -> None:
        self.cases = cases
        self.classes = dict(classes)
        self.patch = patch

    def __call__(self, model: Model) -> Validation:
        """Metrics of ``model``, which is in evaluation mode."""
        rank, ranks = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        mine = [(i, self.find(model, self.cases[i])) for i in range(rank, len(self.cases), ranks)]
        scores = Scores(self.classes)
        for i, found in sorted(_gathered(mine, ranks)):
            case = self.cases[i]
            known = case.annotation.completed(case.geometry.shape, len(self.classes))
            scores.add(case.id, self.cases.cases[i].patient, found, known, case.geometry)
        return Validation(scores.values(), scores.rows)

    def find(self, model: Model, case: PreparedCase) -> Found:
        """What ``model`` finds in a case, on the case's prepared grid."""
        image = torch.from_numpy(np.array(case.image)).to(next(model.parameters()).device)
        parts: dict[str, Any] = {}
        for prediction in infer(model, image[None], self.patch).values():
            parts |= _arrays(prediction)
        return Found(**parts)


def _arrays(prediction: Prediction) -> dict[str, np.ndarray]:
    parts: dict[str, np.ndarray] = {}
    if prediction.mask_probabilities is not None:
        parts["mask"] = prediction.mask_probabilities[0].argmax(0).to(torch.uint8).cpu().numpy()
    if prediction.detections is not None:
        found = prediction.detections[0]
        parts["boxes"], parts["scores"] = found.boxes.cpu().numpy(), found.scores.float().cpu().numpy()
        parts["box_classes"] = found.classes.cpu().numpy()
    if prediction.attention is not None:
        parts["attention"] = prediction.attention[0].float().cpu().numpy()
    if prediction.label_probabilities is not None:
        parts["probabilities"] = prediction.label_probabilities[0].float().cpu().numpy()
    return parts


def _gathered(mine: list[tuple[int, Found]], ranks: int) -> list[tuple[int, Found]]:
    """Everybody's share, on every process."""
    if ranks == 1:
        return mine
    shares: list[Any] = [None] * ranks
    dist.all_gather_object(shares, mine)
    return [pair for share in shares for pair in share]
