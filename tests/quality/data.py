"""The cases of a task as every system gets them: images and annotations as cphloc reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from cphloc.data.case import Case, read_case, strongest_rung
from cphloc.data.dataset import Dataset
from cphloc.evaluation.prediction import CasePrediction
from cphloc.evaluation.scores import Scores, score_case
from cphloc.registry.contract import construct
from cphloc.structures.annotation import Annotation
from cphloc.structures.volume import Volume

from .tasks import Task

Predict = Callable[[Volume], CasePrediction]
"""A trained system: from an image to its prediction on the grid of the image."""


class Cases:
    """Training and validation cases of a task; the test split is not used.

    Args:
        task: the task.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self.dataset: Dataset = construct("dataset", task.data, dict(task.arguments))

    @property
    def dims(self) -> int:
        """2 or 3."""
        return self.dataset.dims or 2

    @property
    def classes(self) -> dict[int, str]:
        """Number 1..K -> name."""
        return dict(self.dataset.classes)

    def _read(self, cases: Sequence[Case]) -> Iterator[tuple[Case, Volume, Annotation]]:
        strongest = strongest_rung(cases)
        for case in cases:
            volume, annotation = read_case(case, self.dataset.dims)
            yield case, volume, annotation.completed(volume.geometry.shape, len(self.classes), strongest)

    def to_learn(self) -> Iterator[tuple[Case, Volume, Annotation]]:
        """Read the training cases that a system without partial annotation can learn from."""
        for case, volume, annotation in self._read(self.dataset.cases("train")):
            known = annotation.mask_known
            if not self.task.only_complete or known is None or bool(np.all(known)):
                yield case, volume, annotation

    def to_score(self, most: int | None = None) -> Iterator[tuple[Case, Volume, Annotation]]:
        """Read the validation cases, or ``most`` of them, evenly spread over the split."""
        cases = self.dataset.cases("val")
        step = 1.0 if most is None else max(1.0, len(cases) / most)
        yield from self._read([cases[int(i)] for i in np.arange(0, len(cases), step)])

    def scored(self, predicted: Mapping[str, CasePrediction]) -> Scores:
        """Score the predictions of validation cases, by id, against their annotations."""
        scored = []
        for case, volume, annotation in self._read([c for c in self.dataset.cases("val") if c.id in predicted]):
            found = predicted[case.id]
            scored.append(score_case(case.id, case.patient, found, annotation, volume.geometry, self.classes))
        return Scores(scored, self.classes)
