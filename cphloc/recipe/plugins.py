"""List the plug-ins that a recipe uses."""

from __future__ import annotations

from cphloc.recipe.recipe import Recipe
from cphloc.registry import catalogue
from cphloc.registry.plugins import distribution_of


def used_plugins(recipe: Recipe) -> dict[str, str]:
    """Return the distributions other than cphloc that provide components of a recipe, name -> version."""
    cards = (catalogue.card(block.kind, block.node.children["type"].plain) for block in recipe.blocks)
    found = (distribution_of(card.source, card.import_) for card in cards)
    return dict(sorted({pair for pair in found if pair is not None}))
