"""The metrics of an evaluation, on any split and on data that differ from those of the training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cphloc.config.argument_types import Plain
from cphloc.structures.split import Split
from cphloc.studies.measured import Trained, Values


class Evaluation:
    """Every metric that `cphloc evaluate` would give, over the cases of a split.

    Args:
        split: cases to measure on.
        data: arguments of the data set that differ from those of the training, such as a larger ``size``.
        variant: name under which the numbers stand beside those of the arm itself.
        metrics: only these; default all.
    """

    def __init__(
        self,
        split: Split = "test",
        data: Mapping[str, Plain] | None = None,
        variant: str = "",
        metrics: Sequence[str] | None = None,
    ) -> None:
        self.split: Split = split
        self.data, self.variant = dict(data or {}), variant
        self.metrics = metrics

    def __call__(self, trained: Trained) -> Values:
        """Metrics by name."""
        found = trained.scores(self.split, self.data).values()
        return {self.variant: {k: v for k, v in found.items() if self.metrics is None or k in self.metrics}}
