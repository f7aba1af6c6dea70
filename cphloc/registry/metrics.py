"""Metadata of metrics from their cards: which direction is better, the headline metric of a task, meanings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from cphloc.registry import catalogue
from cphloc.registry.card import Card

POOLED = (
    *("auc", "sensitivity_at_90", "f1", "ece", "brier"),
    *("map", "ap50", "ap10", "recall50", "froc", "image_auc", "d_ece", "mask_map", "mask_ap50", "pq"),
)
"""Metrics of an evaluation that pool all cases, and therefore have no value for each case."""


class Interval(Protocol):
    """Ends of an interval."""

    @property
    def low(self) -> float:
        """Lower end."""
        ...

    @property
    def high(self) -> float:
        """Upper end."""
        ...


def metric_card(metric: str) -> Card | None:
    """Return the card of a metric; ``None`` where there is none.

    Args:
        metric: its name, or ``name/class`` for one class.
    """
    cards, name = catalogue.cards("metric"), metric.partition("/")[0]
    return cards.get(name)


def lower_is_better(metric: str) -> bool:
    """Return True where less of a metric is better; a metric without a card counts as better the higher it is.

    Of signed errors neither less nor more is better but what is closer to 0; see `quality`.

    >>> lower_is_better("hd95_mm"), lower_is_better("hd95_mm/tumour"), lower_is_better("dice")
    (True, True, False)
    """
    card = metric_card(metric)
    return card is not None and card.direction == "lower"


def has_direction(metric: str) -> bool:
    """Return False for metrics of which no value is better than another, such as the entropy of attention.

    >>> has_direction("attention_entropy"), has_direction("volume_error_ml")
    (False, True)
    """
    card = metric_card(metric)
    return card is None or card.direction != "none"


def quality(metric: str, value: float) -> float:
    """Return a number that is greater the better a value of a metric is; NaN for NaN.

    It is the value where higher is better, its negative where lower is better, and minus the distance from 0 for
    signed errors.

    >>> quality("dice", 0.8), quality("hd95_mm", 3.0), quality("volume_error", -0.25)
    (0.8, -3.0, -0.25)
    """
    card = metric_card(metric)
    direction = "higher" if card is None else card.direction
    return -abs(value) if direction == "zero" else -value if direction == "lower" else value


def is_signed(metric: str) -> bool:
    """Return True for signed errors, which are the better the closer to 0.

    >>> is_signed("volume_error/liver"), is_signed("dice")
    (True, False)
    """
    card = metric_card(metric)
    return card is not None and card.direction == "zero"


def less_is_gain(metric: str) -> bool:
    """Return True where a difference below 0 is an improvement; that of signed errors is of their distances from 0.

    >>> less_is_gain("hd95_mm"), less_is_gain("volume_error"), less_is_gain("dice")
    (True, True, False)
    """
    return lower_is_better(metric) or is_signed(metric)


def quality_range(metric: str, interval: Interval) -> tuple[float, float]:
    """Return the smallest and the greatest `quality` in the interval of a metric.

    Args:
        metric: its name.
        interval: with ``low`` and ``high``.
    """
    ends = [quality(metric, interval.low), quality(metric, interval.high)]
    crosses = is_signed(metric) and interval.low < 0 < interval.high
    return min(ends), 0.0 if crosses else max(ends)


def is_physical(metric: str) -> bool:
    """Return True for metrics that only images with a voxel size in mm have.

    >>> is_physical("hd95_mm/tumour"), is_physical("dice")
    (True, False)
    """
    card = metric_card(metric)
    return card is not None and card.physical


def headline(task: str) -> str:
    """Return the headline metric of a task, which selects the best weights unless a recipe sets ``train.best``.

    >>> headline("detection"), headline("segmentation")
    ('ap50', 'dice')
    """
    return next(name for name, card in catalogue.cards("metric").items() if task in card.headline)


def meanings(metrics: Iterable[str]) -> dict[str, str]:
    """Return the one-line meaning of every metric that has a card.

    >>> meanings(["auc", "unheard_of"])
    {'auc': 'probability that a positive image scores higher than a negative one; 0.5 is chance'}
    """
    cards = {name: metric_card(name) for name in metrics}
    return {name: card.summary for name, card in cards.items() if card is not None}
