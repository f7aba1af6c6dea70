"""Metrics of an evaluation, on any split and optionally on data that differ from those of the training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cphloc.config.argument_types import Plain
from cphloc.structures.split import Split
from cphloc.studies.measured import Trained, Values


class Evaluation:
    """Every metric of ``cphloc evaluate`` over the cases of a split.

    Args:
        split: split whose cases are used.
        data: arguments of the data set that differ from those of the training, such as a larger ``size``.
        variant: name of the variant that the metrics are reported for; empty for the arm itself.
        metrics: names of the metrics to keep; by default all.
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
        """Return metrics by name."""
        found = trained.scores(self.split, self.data).values()
        return {self.variant: {k: v for k, v in found.items() if self.metrics is None or k in self.metrics}}
