"""Validation during training: whole prepared cases, in the model's frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from cphloc.data.cache import PreparedCase
from cphloc.inference import infer
from cphloc.metrics.segmentation import dice
from cphloc.model import Model
from cphloc.training.fit import Validation


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
        """Metrics of ``model``, which is in evaluation mode: means over cases, those without the class left out."""
        rank, ranks = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        rows = [self.score(model, self.cases[i]) for i in range(rank, len(self.cases), ranks)]
        if ranks > 1:
            gathered: list[Any] = [None] * ranks
            dist.all_gather_object(gathered, rows)
            rows = [row for part in gathered for row in part]
        rows.sort(key=lambda row: row["case"])
        names = dict.fromkeys(name for row in rows for name in row if name != "case")
        return Validation({name: _mean([row.get(name, np.nan) for row in rows]) for name in names}, rows)

    def score(self, model: Model, case: PreparedCase) -> dict[str, Any]:
        """One row: the case and its metrics."""
        predicted = self.mask(model, case)
        truth = case.annotation.mask
        found = {f"dice/{name}": dice(predicted, truth, number) for number, name in self.classes.items()}
        return {"case": case.id, "dice": _mean(list(found.values())), **found}

    def mask(self, model: Model, case: PreparedCase) -> np.ndarray:
        """Predicted class mask ``(*S)`` of a case."""
        image = torch.from_numpy(np.array(case.image)).to(next(model.parameters()).device)
        found = infer(model, image[None], self.patch)
        probabilities = next(p.mask_probabilities for p in found.values() if p.mask_probabilities is not None)
        return probabilities[0].argmax(0).cpu().numpy()


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")
