"""What ``entry.yaml`` states of measurements: metrics with intervals, of the model and of its baseline."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from cphloc.metrics.bootstrap import Interval
from cphloc.structures.split import Split
from cphloc.zoo.fields import Count, Finite, Positive, Probability, Strict, Text


class Metric(Strict):
    """A metric with its 95 % interval; value, low and high are ``None`` where no case defines it (``n`` is 0).

    Args:
        value: over the cases that have a value.
        low: lower end of the interval.
        high: upper end of the interval.
        n: number of cases with a value.
        n_undefined: number of cases without a value, which are left out.
    """

    value: Finite | None
    low: Finite | None
    high: Finite | None
    n: Count
    n_undefined: Count = 0

    @model_validator(mode="after")
    def _ordered(self) -> Metric:
        stated = [v for v in (self.value, self.low, self.high) if v is not None]
        if len(stated) not in ((1, 3) if self.n else (0,)) or (self.n and self.value is None):
            msg = "value is a number with n above 0, else null; low and high are both numbers or both null"
            raise ValueError(msg)
        if (interval := self.interval) is not None and interval.low > interval.high:
            msg = f"the interval's low {interval.low} is above its high {interval.high}"
            raise ValueError(msg)
        return self

    @property
    def interval(self) -> Interval | None:
        """The value with its interval; ``None`` where no case defines the metric, or cases of one patient only."""
        if self.value is None or self.low is None or self.high is None:
            return None
        return Interval(self.value, self.low, self.high, self.n, self.n_undefined)


def is_undefined(metric: Mapping[str, Any]) -> bool:
    """Return whether no case defines a metric, such as AUC without a positive case or AP of an absent class.

    Args:
        metric: ``value`` and ``n``, as an evaluation writes them.
    """
    value = metric.get("value")
    return metric.get("n") == 0 or value is None or math.isnan(value)


def as_undefined(metric: Mapping[str, Any]) -> dict[str, Any]:
    """Convert an undefined metric of an evaluation (NaN) to what `Metric` takes (``None``)."""
    cases = metric.get("n", 0) + metric.get("n_undefined", 0)
    return {"value": None, "low": None, "high": None, "n": 0, "n_undefined": cases}


class Gain(Metric):
    """Metric of the model minus that of the baseline on the same cases, with its interval by patient.

    Args:
        p_value: of a sign-flip test by patient; ``None`` for metrics that pool all cases.
    """

    p_value: Finite | None = None


class Baseline(Strict):
    """Metrics of a trivial method on the same cases, such as the mean training mask.

    ``paired`` is the model minus the baseline, by metric; entries of earlier versions do not have it.
    """

    name: Text
    metrics: Annotated[dict[Text, Metric], Field(min_length=1)]
    per_class: dict[Text, dict[Text, Metric]] = Field(default_factory=dict)
    paired: dict[Text, Gain] = Field(default_factory=dict)


class Group(Strict):
    """Metrics of a group of the cases, such as those of one class or site."""

    cases: Count
    patients: Count
    metrics: dict[Text, Metric]


class Evaluation(Strict):
    """Metrics on one split; the first metric is the headline. ``cases`` are the split's case ids; none if imported.

    The metrics of an ensemble of a cross-validation are ``out_of_fold``: those of its single networks, each on the
    cases that it has not seen. ``recommended`` gives the reason for each metric that fits the model's answers, and
    ``nsd_tolerance_mm`` the tolerance of the surface Dice by class; entries of earlier versions have neither.
    ``groups`` holds the headline and the recommended metrics by column and group, where they were measured.
    """

    split: Split | Literal["out_of_fold"]
    metrics: Annotated[dict[Text, Metric], Field(min_length=1)]
    per_class: dict[Text, dict[Text, Metric]] = Field(default_factory=dict)
    recommended: dict[Text, Text] = Field(default_factory=dict)
    nsd_tolerance_mm: dict[Text, Positive] = Field(default_factory=dict)
    groups: dict[Text, dict[Text, Group]] = Field(default_factory=dict)
    cases: list[Text]


class Tested(Strict):
    """Metrics of the published ensemble of a cross-validation on the test split, which none of its networks has seen.

    ``paired`` is the ensemble minus the baseline, by metric; ``cases`` are the test cases.
    """

    metrics: Annotated[dict[Text, Metric], Field(min_length=1)]
    per_class: dict[Text, dict[Text, Metric]] = Field(default_factory=dict)
    paired: dict[Text, Gain] = Field(default_factory=dict)
    cases: Annotated[list[Text], Field(min_length=1)]


class Explanation(Strict):
    """Attention as an explanation of the labels, beside other maps of the same network.

    Args:
        cases: number of cases with an object that were explained.
        methods: by map (``attention``, ``grad-cam``, ``occlusion``, ``random weights``), its metrics.
        paired: by each other map, attention minus that map.
        similarity_to_random: rank correlation of the attention with that of random weights.
    """

    cases: Count
    methods: Annotated[dict[Text, dict[Text, Metric]], Field(min_length=1)]
    paired: dict[Text, dict[Text, Gain]] = Field(default_factory=dict)
    similarity_to_random: Metric


class Calibration(Strict):
    """Temperature by which label logits are divided, and the expected calibration error before and after.

    Args:
        temperature: fitted on ``split``.
        split: ``val``.
        ece_before: expected calibration error on the test split without the temperature.
        ece_after: expected calibration error on the test split with it.
    """

    temperature: Positive
    split: Text
    ece_before: Metric
    ece_after: Metric


class Thresholds(Strict):
    """Thresholds chosen on ``split``, the default of ``predict --threshold``.

    Args:
        boxes: least score of a box; ``None`` keeps all.
        mask: least probability of an object in a mask; ``None`` gives every voxel its most probable class.
        split: ``val``.
    """

    boxes: Probability | None = None
    mask: Probability | None = None
    split: Text

    @property
    def by_part(self) -> dict[str, float]:
        """The stated thresholds by part."""
        return {part: value for part in ("boxes", "mask") if (value := getattr(self, part)) is not None}
