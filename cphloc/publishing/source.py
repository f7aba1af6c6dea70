"""What an entry states about its data set, from the card of the data set and the recipe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from cphloc.data.planning.about import OWN
from cphloc.errors import NotFoundError
from cphloc.recipe.fields import Data
from cphloc.recipe.recipe import Recipe
from cphloc.registry import catalogue
from cphloc.registry.card import Card
from cphloc.zoo.agreement import disagreement
from cphloc.zoo.entry import Entry

_NOT_STATED = ["not stated"]
"""Citation of one's own data whose recipe states none."""


def data_card(data: Data) -> Card:
    """Return the card of a recipe's data set, with what ``data.about`` states of one's own data in its place.

    The card of a layout, such as ``image_folder``, cites the description of the layout; that says nothing of the data.

    Args:
        data: section ``data`` of the recipe.
    """
    card = catalogue.card("dataset", data.type)
    if card.licence == OWN:
        card = card.model_copy(update={"citation": _NOT_STATED, "url": None})
    if data.about is None:
        return card
    stated = {**data.about.model_dump(), "url": data.about.source}
    del stated["source"]
    own = {key: value for key, value in stated.items() if value}
    return card.model_copy(update={"url": None, **own})


def modalities_of(source: Card, channels: Sequence[str]) -> list[str]:
    """List the modalities of the channels that a model reads.

    Args:
        source: card of the data set; where it does not state a modality per channel, all its modalities are listed.
        channels: that the model reads.
    """
    all_of_set = listed(source.modality)
    if source.channels is None or len(all_of_set) != len(source.channels):
        return all_of_set
    by_channel = dict(zip(source.channels, all_of_set, strict=True))
    return list(dict.fromkeys(by_channel[channel] for channel in channels))


def source_facts(source: Card) -> dict[str, str | None]:
    """Return licence, citation and address of a data set as an entry states them."""
    urls = listed(source.url)
    citation = "; ".join(listed(source.citation))
    return {"licence": source.licence, "citation": citation, "url": urls[0] if urls else None}


def source_disagreements(entry: Entry, recipe: Recipe) -> Iterator[str]:
    """Yield a sentence for each fact about the data that the recipe, or the card of the data set, contradicts.

    Args:
        entry: the entry.
        recipe: its stored recipe.
    """
    try:
        source = data_card(recipe.data)
        modality = modalities_of(source, recipe.channels)
    except (NotFoundError, KeyError):  # a data set of a plug-in, or a channel that its card does not list
        return
    stated = {"modality": entry.modality, "licence": entry.data.licence, "citation": entry.data.citation}
    for what, actual in {**source_facts(source), "modality": modality}.items():
        if what in stated and stated[what] != actual and (what != "citation" or actual not in _NOT_STATED):
            yield disagreement(what, stated[what], actual, "its data set has")


def listed(words: Any) -> list[str]:
    """Return a text of a card as a list; a list as it is, and nothing as an empty one."""
    return [words] if isinstance(words, str) else list(words or ())
