"""Metrics of an evaluation with the annotations that the data set lists as doubtful, beside those without."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from cphloc.data.case import Case
from cphloc.data.dataset import Dataset
from cphloc.evaluation.scores import Scores, summary
from cphloc.structures.split import Split


def with_doubtful(
    dataset: Dataset, split: Split, scores: Scores, score: Callable[[Sequence[Case]], Scores]
) -> dict[str, Any] | None:
    """Compute the metrics of all cases with their doubtful annotations, which otherwise count as unknown.

    Only the cases that have any are predicted again.

    Args:
        dataset: the evaluated data set.
        split: the evaluated split.
        scores: of its cases, without doubtful annotations.
        score: predicts and scores cases.

    Returns:
        ``cases``: ids of those with a doubtful annotation; ``metrics`` and ``per_class`` as in the evaluation. ``None``
        where the data set lists none in this split.
    """
    whole = dataset.with_doubtful()
    if whole is None:
        return None
    known = {case.id: case.annotation.known for case in dataset.cases(split)}
    added = [case for case in whole.cases(split) if case.annotation.known != known.get(case.id)]
    if not added:
        return None
    again = {case.scores.id: case for case in score(added).cases}
    joined = Scores([again.get(case.scores.id, case) for case in scores.cases], scores.classes)
    return {"cases": list(again), **summary(joined.intervals())}
