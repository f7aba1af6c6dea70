"""Time that annotators need for the training annotations of an arm, from published times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from cphloc.config.argument_types import NonNegativeFloat, PositiveFloat
from cphloc.errors import InputError
from cphloc.structures.rung import RUNGS
from cphloc.studies.measured import Trained, Values

SECONDS = {"label": 20.0, "region": 22.1, "boxes": 54.5, "mask": 239.7}
"""Seconds an image by rung, each with the label: a label 20.0, a side as one click 22.1 and masks 239.7, of PASCAL VOC
(Bearman et al. 2016, arXiv:1506.02106); a box 34.5 more than the label, of ImageNet (Su et al. 2012, as cited by
Papadopoulos et al. 2017, arXiv:1708.02750)."""


class AnnotationCost:
    """Minutes of annotation of all training cases, each at its strongest rung, with the label.

    Args:
        seconds: rung -> seconds an image, where they are not `SECONDS`; 0 for annotations that the arm does not use.
        vary: factor by which the seconds of boxes and masks are divided and multiplied for the least and the largest
            cost, because published times differ and objects are more or less difficult; at least 1.

    Raises:
        InputError: ``seconds`` names no rung, or ``vary`` is below 1.
    """

    def __init__(self, seconds: Mapping[str, NonNegativeFloat] | None = None, vary: PositiveFloat = 2.0) -> None:
        if unknown := set(seconds or {}) - set(RUNGS):
            msg = f"annotation_cost: seconds accepts the rungs {', '.join(RUNGS)}, not '{min(unknown)}'"
            raise InputError(msg)
        if vary < 1:
            msg = f"annotation_cost: vary must be at least 1, got {vary}"
            raise InputError(msg)
        self.seconds, self.vary = {**SECONDS, **(seconds or {})}, vary

    def __call__(self, trained: Trained) -> Values:
        """Return ``annotation_minutes`` with its ends ``annotation_minutes_low`` and ``annotation_minutes_high``."""
        cases = trained.pipeline.dataset.cases("train")
        count = Counter(RUNGS[case.annotation.rung - 1] for case in cases if case.annotation.rung is not None)
        name = "annotation_minutes"
        factors = {name: 1.0, f"{name}_low": 1 / self.vary, f"{name}_high": self.vary}
        return {"": {key: self._minutes(count, factor) for key, factor in factors.items()}}

    def _minutes(self, count: Mapping[str, int], factor: float) -> float:
        strong = {"boxes", "mask"}
        return sum(n * self.seconds[rung] * (factor if rung in strong else 1) for rung, n in count.items()) / 60
