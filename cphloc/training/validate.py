"""Validation during training: whole prepared cases, in the model's frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from cphloc.data.cache import PreparedCase
from cphloc.inference import infer
from cphloc.model import Model
from cphloc.training.fit import Validation
from cphloc.training.scores import Found, Scored, Scores, score


class Validator:
    """Predicts every case and measures it; the processes of a distributed training share the cases between them.

    Args:
        cases: prepared cases.
        classes: number 1..K -> name.
        patch: window ``(*S)``; larger cases are predicted window by window.
    """

    def __init__(self, cases: Sequence[PreparedCase], classes: Mapping[int, str], patch: Sequence[int] | None) -> None:
        self.cases = cases
        self.classes = dict(classes)
        self.patch = patch

    def __call__(self, model: Model) -> Validation:
        """Metrics of ``model``, which is in evaluation mode, over the cases of all processes."""
        rank, ranks = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        scored = [self.score(model, self.cases[i]) for i in range(rank, len(self.cases), ranks)]
        if ranks > 1:
            gathered: list[Any] = [None] * ranks
            dist.all_gather_object(gathered, scored)
            scored = [case for part in gathered for case in part]
        scores = Scores(sorted(scored, key=lambda case: case.scores.id), self.classes)
        return Validation(scores.values(), scores.rows)

    def score(self, model: Model, case: PreparedCase) -> Scored:
        """Predict one case and compare it with its annotation."""
        shape = case.image.shape[1:]
        known = case.annotation.completed(shape, len(self.classes))
        return score(case.id, case.id, self.found(model, case), known, case.geometry, self.classes)

    def found(self, model: Model, case: PreparedCase) -> Found:
        """What the model finds in a case, in the model's frame."""
        image = torch.from_numpy(np.array(case.image)).to(next(model.parameters()).device)
        parts: dict[str, np.ndarray] = {}
        for prediction in infer(model, image[None], self.patch).values():
            if prediction.mask_probabilities is not None:
                parts["mask"] = prediction.mask_probabilities[0].argmax(0).cpu().numpy().astype(np.uint8)
            if prediction.detections is not None:
                boxes = prediction.detections[0]
                parts |= {"boxes": boxes.boxes.cpu().numpy(), "scores": boxes.scores.cpu().numpy()}
                parts["box_classes"] = boxes.classes.cpu().numpy()
            if prediction.attention is not None:
                parts["attention"] = prediction.attention[0].cpu().numpy()
            if prediction.label_probabilities is not None:
                parts["probabilities"] = prediction.label_probabilities[0].cpu().numpy()
        return Found(**parts)
