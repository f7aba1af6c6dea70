"""Update a recipe file to the current names of components and arguments, keeping comments and layout.

The names are those of `cphloc.recipe.renames`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from cphloc.config import yamlio
from cphloc.config.nodes import KeyPath, Node
from cphloc.errors import CphlocError
from cphloc.files import atomic
from cphloc.recipe.merge import assemble, parse_path
from cphloc.recipe.renames import Renaming, renamings


def migrate(path: Path) -> list[Renaming]:
    """Rewrite the recipe file at ``path`` with current names; files that it extends are not changed.

    Returns:
        the names that were replaced; if there are none, the file is not written.

    Raises:
        RecipeError: the file is not valid YAML.
    """
    renamed = list(renamings(yamlio.load(path), _whole(path)))
    if renamed:
        text = path.read_bytes().decode("utf-8-sig")
        words = [r for r in renamed if "." not in r.new]
        moves = [r for r in renamed if "." in r.new]
        with atomic(path) as temporary:
            temporary.write_bytes(_moved(rewritten(text, words), moves).encode())
    return renamed


def _whole(path: Path) -> Node | None:
    """The recipe merged with those it extends, for the types of its blocks; ``None`` if one is missing or invalid."""
    try:
        return assemble(path)
    except CphlocError:
        return None


def rewritten(text: str, renamed: Sequence[Renaming]) -> str:
    """Return ``text`` with each earlier name replaced at its position, and all else unchanged."""
    lines = text.splitlines(keepends=True)
    for renaming in sorted(renamed, key=lambda r: r.where, reverse=True):
        line, column = lines[renaming.where.line - 1], renaming.where.column - 1
        before, after = line[:column], line[column:]
        lines[renaming.where.line - 1] = before + after.replace(renaming.old, renaming.new, 1)
    return "".join(lines)


def _moved(text: str, moves: Sequence[Renaming]) -> str:
    """Move arguments into the nested blocks that they belong to in the current version."""
    for parent, name in dict.fromkeys((parse_path(r.path)[:-1], r.new.partition(".")[0]) for r in moves):
        here = {
            str(parse_path(r.path)[-1]): r.new.partition(".")[2] for r in moves if parse_path(r.path)[:-1] == parent
        }
        text = _with_block(text, parent, name, here)
    return text


def _with_block(text: str, parent: KeyPath, name: str, moved: dict[str, str]) -> str:
    """Replace the ``moved`` arguments (old name -> new) of the block at ``parent`` by one ``name: {...}``."""
    tree = yamlio.read(text, "recipe")
    children = tree.get(parent).children  # type: ignore[union-attr]
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))

    def _span(key: str) -> tuple[int, int, str]:
        """Start and end offset of an argument in the text, and its value as written."""
        at, value = children[key].key_where, children[key].where
        first, begin = starts[at.line - 1] + at.column - 1, starts[value.line - 1] + value.column - 1
        written = _VALUE.match(text, begin)
        assert written is not None
        return first, written.end(), written[0].strip()

    parts = {key: _span(key) for key in (name, *moved) if key in children}
    stated = parts[name][2] if name in parts else ""
    inner = [stated.strip("{} ")] if stated.startswith("{") else [f"type: {stated}"] if stated else []
    inner += [f"{new}: {parts[old][2]}" for old, new in moved.items()]
    spans = sorted((first, last) for first, last, _ in parts.values())
    for first, last in reversed(spans[1:]):
        text = _without(text, first, last)
    first, last = spans[0]
    return f"{text[:first]}{name}: {{{', '.join(inner)}}}{text[last:]}"


_VALUE = re.compile(r"\{[^{}\n]*\}|[^,}#\r\n]*[^,}#\s]")
"""A flow mapping, or a scalar up to a comma, a brace or a comment."""


def _without(text: str, first: int, last: int) -> str:
    """Delete an argument: its whole line if nothing else is on it, else with the comma after or before it."""
    begin, end = text.rfind("\n", 0, first) + 1, text.find("\n", last) + 1 or len(text)
    if not text[begin:first].strip() and not text[last:end].split("#")[0].strip():
        return text[:begin] + text[end:]
    after = re.match(r"\s*,\s*", text[last:])
    if after:
        return text[:first] + text[last + after.end() :]
    before = text[:first].rstrip()
    return (before[:-1].rstrip() if before.endswith(",") else text[:first]) + text[last:]
