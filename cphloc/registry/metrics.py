"""Metadata of metrics from their cards: which direction is better, the headline metric of a task, meanings."""

from __future__ import annotations

from collections.abc import Iterable

from cphloc.registry import catalogue
from cphloc.registry.card import Card


def metric_card(metric: str) -> Card | None:
    """Return the card of a metric; ``None`` where there is none.

    Args:
        metric: its name, or ``name/class`` for one class.
    """
    cards, name = catalogue.cards("metric"), metric.partition("/")[0]
    return cards.get(name)


def lower_is_better(metric: str) -> bool:
    """Return True where less of a metric is better; a metric without a card counts as better the higher it is.

    >>> lower_is_better("hd95_mm"), lower_is_better("hd95_mm/tumour"), lower_is_better("dice")
    (True, True, False)
    """
    card = metric_card(metric)
    return card is not None and card.direction == "lower"


def has_direction(metric: str) -> bool:
    """Return False for metrics that neither direction makes better, such as signed errors.

    >>> has_direction("volume_error_ml"), has_direction("dice")
    (False, True)
    """
    card = metric_card(metric)
    return card is None or card.direction != "none"


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
