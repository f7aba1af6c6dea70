"""Rewrite a recipe for today's names, in place, comments and all.

Only what a card says about itself changes: ``renamed_from`` for components, ``renamed_arguments`` for their arguments.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cphloc.config import yamlio
from cphloc.config.nodes import Node, Position, dotted
from cphloc.errors import InputError
from cphloc.recipe.blocks import BlockAt, blocks
from cphloc.registry import catalogue


@dataclass(frozen=True)
class Renaming:
    """One word of a file that has another name today."""

    where: Position
    path: str
    old: str
    new: str


def renamings(root: Node) -> Iterator[Renaming]:
    """What to rename in a recipe, parents aside; ``root`` follows along."""
    for block in blocks(root):
        named = block.node.children.get("type")
        new = catalogue.renamed(block.kind, named.value) if named is not None and isinstance(named.value, str) else None
        if new is not None:
            yield Renaming(named.where, dotted((*block.path, "type")), named.value, new)
            named.value = new
        yield from _renamed_arguments(block)


def migrate(path: Path) -> list[Renaming]:
    """Rewrite the file at ``path``, and say what was renamed.

    Raises:
        RecipeError: the file is no YAML.
    """
    found = list(renamings(yamlio.load(path)))
    text = path.read_bytes().decode("utf-8-sig")
    if found:
        path.write_bytes(rewritten(text, found).encode())
    return found


def rewritten(text: str, found: list[Renaming]) -> str:
    """Replace each word where it stands; every other character stays."""
    lines = text.splitlines(keepends=True)
    for renaming in sorted(found, key=lambda r: r.where, reverse=True):
        line, column = lines[renaming.where.line - 1], renaming.where.column - 1
        before, after = line[:column], line[column:]
        lines[renaming.where.line - 1] = before + after.replace(renaming.old, renaming.new, 1)
    return "".join(lines)


def _renamed_arguments(block: BlockAt) -> Iterator[Renaming]:
    named = block.node.children.get("type")
    try:
        card = catalogue.card(block.kind, named.value) if named is not None and isinstance(named.value, str) else None
    except InputError:
        return
    for old, new in card.renamed_arguments.items() if card is not None else ():
        if old in block.node.value:
            node = block.node.value.pop(old)
            block.node.value[new] = node
            yield Renaming(node.key_where, dotted((*block.path, old)), old, new)
