"""Channels are declared on the card, for checks without data, and by the data set; both must agree."""

from __future__ import annotations

import pytest

from cphloc.data.datasets.phantom import PhantomCases
from cphloc.data.datasets.phantom_pair import PhantomPairs
from cphloc.data.datasets.sts_petct import FILES
from cphloc.registry import catalogue

DECLARED = [name for name, card in catalogue.cards("dataset").items() if card.channels]


@pytest.mark.parametrize("name", DECLARED)
def test_a_card_declares_the_channels_of_its_data_set(name):
    special = {
        "phantom": PhantomCases().channels,
        "phantom_pair": PhantomPairs().channels,
        "sts_petct": tuple(FILES),
    }
    declared = special.get(name) or catalogue.resolve("dataset", name).__dict__["channels"]
    assert catalogue.channels(catalogue.card("dataset", name)) == declared
