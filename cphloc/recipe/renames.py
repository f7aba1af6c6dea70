"""Replace earlier names of components and arguments in a recipe.

The earlier names are on the registry cards: ``renamed_from`` for components and ``renamed_arguments`` for arguments.
``score_threshold: suppression.score`` on a card means that the argument has moved into a nested block.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cphloc.config.nodes import Node, Position, dotted
from cphloc.errors import InputError
from cphloc.recipe.blocks import BlockAt, blocks
from cphloc.registry import catalogue
from cphloc.registry.card import Card

_SOFT_NMS = {"soft_nms_linear": "linear", "soft_nms_gaussian": "gaussian"}
"""Earlier values of ``suppression`` -> equivalent ``kernel`` of ``soft_nms``."""


@dataclass(frozen=True)
class Renaming:
    """An earlier name in a recipe file and its replacement.

    Args:
        where: source position of the name.
        path: dotted path in the recipe.
        old: earlier name.
        new: current name; ``block.argument`` for an argument that has moved into a nested block.
    """

    where: Position
    path: str
    old: str
    new: str


def renamings(root: Node, whole: Node | None = None) -> Iterator[Renaming]:
    """Replace every earlier name in ``root`` in place, and yield each replacement.

    Args:
        root: tree of one file or override.
        whole: the recipe that ``root`` is merged over; gives the ``type`` of blocks that state none in ``root``.
    """
    for block in blocks(root):
        named = block.node.children.get("type")
        if named is not None and isinstance(named.value, str):
            new = catalogue.renamed(block.kind, named.value)
            if new is not None:
                yield Renaming(named.where, dotted((*block.path, "type")), named.value, new)
                named.value = new
        card = _card(block, whole)
        if card is not None and card.renamed_arguments:
            yield from _renamed_arguments(block, card)


def _card(block: BlockAt, whole: Node | None) -> Card | None:
    """The card of a block's component; ``None`` if it is unknown."""
    named = block.node.children.get("type") or (whole and whole.get((*block.path, "type")))
    try:
        return catalogue.card(block.kind, named.value) if named and isinstance(named.value, str) else None
    except InputError:
        return None


def _renamed_arguments(block: BlockAt, card: Card) -> Iterator[Renaming]:
    value = block.node.value
    assert isinstance(value, dict)  # a block
    yield from _suppression_block(block)
    for old, new in card.renamed_arguments.items():
        if old not in value:
            continue
        outer, _, inner = new.rpartition(".")
        target = _nested(value, outer, value[old]) if outer else value
        if target is not None and inner not in target:
            node = value.pop(old)
            target[inner] = node
            yield Renaming(node.key_where, dotted((*block.path, old)), old, new)


def _nested(value: dict, name: str, first: Node) -> dict | None:
    """The mapping of the nested block ``name``, created if missing; ``None`` if it is not a mapping."""
    node = value.setdefault(name, Node({}, first.key_where, first.key_where))
    return node.value if isinstance(node.value, dict) else None


def _suppression_block(block: BlockAt) -> Iterator[Renaming]:
    """Replace ``suppression: nms`` by a block, and ``soft_nms_linear`` by ``{type: soft_nms, kernel: linear}``."""
    node = block.node.children.get("suppression")
    if node is None or not isinstance(node.value, str):
        return
    old, kernel = node.value, _SOFT_NMS.get(node.value)
    parts = {"type": "soft_nms", "kernel": kernel} if kernel else {"type": old}
    node.value = {key: Node(text, node.where, node.where) for key, text in parts.items()}
    if kernel:
        yield Renaming(node.where, dotted((*block.path, "suppression")), old, f"{{type: soft_nms, kernel: {kernel}}}")
