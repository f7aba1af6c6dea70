"""Masks that are seeded from the attention of another head: ``model.seeds`` of a recipe, and its check."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from cphloc.config.argument_types import UnitInterval, Weight
from cphloc.config.nodes import Node, dotted
from cphloc.errors import InputError, Problem, did_you_mean
from cphloc.recipe.strict import Strict
from cphloc.registry import catalogue
from cphloc.registry.card import Card


class SeedFrom(Strict):
    """From which head a mask head takes pseudo-masks for cases that have a label alone."""

    head: str = Field(description="head with attention")
    above: UnitInterval = Field(0.5, description="share of the largest attention from which a voxel is inside")
    below: UnitInterval = Field(0.1, description="share of the largest attention up to which a voxel is outside")
    after: UnitInterval = Field(0.3, description="share of the training after which seeds count")
    weight: Weight = Field(0.5, description="weight of the loss of seeded cases")


def seed_problems(root: Node) -> Iterator[Problem]:
    """Yield what is wrong with the heads and values that ``model.seeds`` names."""
    seeds, heads = root.get(("model", "seeds")), root.get(("model", "heads"))
    if seeds is None or heads is None:
        return
    for name, node in seeds.children.items():
        path = ("model", "seeds", name)
        for head, gives, where in ((name, "mask", node), (_plain(node, "head"), "attention", node)):
            card = _card_of(root, head)
            if card is None or gives not in card.gives:
                fitting = [str(h) for h in heads.children if gives in getattr(_card_of(root, h), "gives", ())]
                fix = did_you_mean(str(head), fitting) or f"heads with {gives}: {', '.join(fitting) or 'none'}"
                yield Problem(str(where.where), dotted(path), f"'{head}' is no head with {gives}", fix)
        above, below = _plain(node, "above", 0.5), _plain(node, "below", 0.1)
        if isinstance(above, int | float) and isinstance(below, int | float) and below >= above:
            what = f"below is {below}, above {above}"
            yield Problem(str(node.where), dotted(path), what, "make below less than above")


def _plain(node: Node, key: str, default: object = None) -> object:
    child = node.get((key,))
    return default if child is None else child.value


def _card_of(root: Node, head: object) -> Card | None:
    kind = root.get(("model", "heads", str(head), "type"))
    try:
        return catalogue.card("head", kind.value) if kind is not None and isinstance(kind.value, str) else None
    except InputError:
        return None
