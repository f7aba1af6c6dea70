"""From a file, its parents and overrides to one tree of values, each of which knows who wrote it.

Mappings merge, lists replace, and a block whose ``type`` changes is replaced whole; of ``data`` only what belongs to
the data set is, while patch, spacing, augmentation and the like stay (`PROCESSING`). References such as
``${model.neck.channels}`` resolve after merging; a reference is the whole value, never part of a text. Keys that start
with ``x-`` are free, and gone afterwards.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cphloc import paths
from cphloc.config import yamlio
from cphloc.config.nodes import KeyPath, Node, dotted, from_plain
from cphloc.config.yamlio import MAX_NODES
from cphloc.errors import InputError, NotFoundError, Problem, RecipeError, did_you_mean

_REFERENCE = re.compile(r"\$\{\s*([^${}]+?)\s*\}")
STUDIES = "lecture"
"""Folder of ``recipes`` that holds studies, which compare recipes and are none themselves."""

_NOT_INHERITED = ("name", "description")

PROCESSING = ("spacing_mm", "intensity", "patch", "fit", "augment", "foreground", "workers", "tiles", "skip_bad")
"""Fields of ``data`` that say how cases become samples, whichever data set they are from."""


def assemble(source: str | Path | Mapping[str, Any] | Node, overrides: Mapping[str, Any] | None = None) -> Node:
    """Read ``source``, merge it over its parents, then apply ``overrides``, then resolve references.

    Args:
        source: a file, the name of a shipped recipe, plain data, or a tree that was read from another file.
        overrides: values by dotted key, plain or as nodes that know where they were written.

    Raises:
        RecipeError: with every problem found.
    """
    if isinstance(source, Node):
        root = _with_parent(copy.deepcopy(source), Path(source.where.source), [])
    elif isinstance(source, Mapping):
        root = _with_parent(from_plain(source, "recipe"), Path(), [])
    else:
        root = _read(find(source), [])
    for key, value in (overrides or {}).items():
        stated = copy.deepcopy(value) if isinstance(value, Node) else None
        path, node = _renamed_override(
            root, parse_path(key), stated or from_plain(value, f"--set {key}={yamlio.inline(value)}")
        )
        root = _set(root, key, path, node)
    return _without_free_keys(_resolved(root))


def find(source: str | Path, folder: Path | None = None) -> Path:
    """The file of a recipe: a path, from ``folder`` where it is relative, or the name of a shipped recipe.

    Shipped recipes in a folder are found with and without it: ``systems/retina`` is ``retina``.

    Raises:
        NotFoundError: there is none.
    """
    path = Path(source).expanduser()
    if folder is not None and not path.is_absolute():
        path = folder / path
    if path.is_file():
        return path
    known = shipped_recipes()
    named = [shipped for name, shipped in known.items() if str(source) in (name, shipped.stem)]
    if named:
        return named[0]
    fix = did_you_mean(str(source), known) or "give the path of a .yaml file, or a name from: cphloc list recipes"
    msg = f"no recipe '{source}'; {fix}"
    raise NotFoundError(msg)


def shipped_recipes() -> dict[str, Path]:
    """Shipped recipes by name, such as ``unet3d-ct`` or ``systems/retina``."""
    folder = paths.shipped("recipes")
    found = (p for p in sorted(folder.rglob("*.yaml")) if p.parent.name != STUDIES)
    return {p.relative_to(folder).with_suffix("").as_posix(): p for p in found}


def merge(parent: Node, child: Node, path: KeyPath = ()) -> Node:
    """Lay ``child`` over ``parent``, both at ``path`` of a recipe.

    >>> parent, child = from_plain({"a": {"b": 1, "c": [1]}}, "p"), from_plain({"a": {"c": [2]}}, "c")
    >>> merge(parent, child).plain
    {'a': {'b': 1, 'c': [2]}}
    """
    if not (isinstance(parent.value, dict) and isinstance(child.value, dict)):
        return child
    old, new = parent.value.get("type"), child.value.get("type")
    merged = dict(parent.value)
    if old is not None and new is not None and old.value != new.value:
        kept = PROCESSING if path == ("data",) else ()
        merged = {key: node for key, node in merged.items() if key in kept}
    for key, node in child.value.items():
        merged[key] = merge(merged[key], node, (*path, key)) if key in merged else node
    return Node(merged, child.where, child.key_where)


def parse_path(text: str) -> KeyPath:
    """Split a dotted key; the inverse of `cphloc.config.nodes.dotted`.

    >>> parse_path("data.augment[0].type")
    ('data', 'augment', 0, 'type')
    """
    return tuple(int(part) if part.isdecimal() else part for part in re.findall(r"[^.\[\]]+", text))


def _read(path: Path, trail: list[Path]) -> Node:
    return _with_parent(yamlio.load(path), path, [*trail, path.resolve()])


def _with_parent(root: Node, path: Path, trail: list[Path]) -> Node:
    if not isinstance(root.value, dict):
        problem = Problem(
            str(root.where), "(top)", "not a recipe", "write 'task:', 'dims:', 'data:', 'model:', 'train:'"
        )
        raise RecipeError([problem])
    extends = root.value.pop("extends", None)
    if extends is None:
        return _renamed(root, None)
    try:
        if not isinstance(extends.value, str):
            msg = f"{extends.plain} is not one file; give one path or the name of a shipped recipe"
            raise InputError(msg)
        parent_path = find(extends.value, path.parent)
        if parent_path.resolve() in trail:
            loop = " -> ".join(p.name for p in [*trail, parent_path])
            msg = f"extends itself: {loop}; remove one 'extends:'"
            raise InputError(msg)
    except RecipeError:
        raise
    except InputError as error:
        what, fix = str(error).split("; ", 1)
        raise RecipeError([Problem(str(extends.where), "extends", what, fix)]) from None
    parent = _read(parent_path, trail)
    inherited = {key: node for key, node in parent.children.items() if key not in _NOT_INHERITED}
    return merge(Node(inherited, parent.where, parent.key_where), _renamed(root, parent))


def _renamed(root: Node, whole: Node | None) -> Node:
    """Replace earlier names of components and arguments in ``root``, which is laid over ``whole``."""
    from cphloc.recipe.renames import renamings  # reads cards, which those that only list recipes do not need

    for _ in renamings(root, whole):
        pass
    return root


def _renamed_override(root: Node, path: KeyPath, value: Node) -> tuple[KeyPath, Node]:
    """Replace earlier names in an override of ``root``, whose path may name or lie in what was renamed."""
    if int in map(type, path):
        return path, value
    nested = value
    for key in reversed(path):
        nested = Node({key: nested}, value.where, value.key_where)
    node, done = _renamed(nested, root), ()
    while len(done) < len(path) and len(node.children) == 1:
        key = path[len(done)] if path[len(done)] in node.children else next(iter(node.children))
        node, done = node.children[key], (*done, key)
    return done, node


def _set(root: Node, key: str, whole_path: KeyPath, value: Node) -> Node:
    """A copy of ``root`` with ``value`` merged in at ``whole_path``; ``key`` is what the override is called."""

    def place(node: Node | None, path: KeyPath, done: KeyPath) -> Node:
        if not path:
            return merge(node, value, done) if node is not None else value
        here = node.value if node is not None else {}
        if node is not None and isinstance(here, list):
            if not isinstance(path[0], int) or path[0] >= len(here):
                what, fix = f"no item '{path[0]}' in {dotted(done)}", f"it has items 0 to {len(here) - 1}"
                raise RecipeError([Problem(str(value.where), key, what, fix)])
            items = [place(n, path[1:], (*done, i)) if i == path[0] else n for i, n in enumerate(here)]
            return Node(items, node.where, node.key_where)
        child: Node = place(node.get(path[:1]) if node is not None else None, path[1:], (*done, path[0]))
        stated = Node({path[0]: child}, value.where, value.key_where)
        if node is None or not isinstance(here, dict):
            return stated
        merged = merge(node, stated, done)
        return Node(merged.value, node.where, node.key_where)

    return place(root, whole_path, ())


def _resolved(root: Node) -> Node:
    """Put what references name in their place."""
    references = _References(root)
    resolved = references.resolve(root, (), ())
    if references.problems:
        raise RecipeError(references.problems)
    return resolved


@dataclass
class _References:
    """Copies a tree with its references followed; ``trail`` holds those that led to a node."""

    root: Node
    problems: list[Problem] = field(default_factory=list)
    visited: int = 0

    def resolve(self, node: Node, path: KeyPath, trail: tuple[str, ...]) -> Node:
        self.visited += 1
        if self.visited > 2 * MAX_NODES:
            raise RecipeError([Problem(str(node.where), dotted(path), f"more than {MAX_NODES:,} values", "copy less")])
        if isinstance(node.value, dict):
            below: Any = {key: self.resolve(n, (*path, key), trail) for key, n in node.value.items()}
        elif isinstance(node.value, list):
            below = [self.resolve(n, (*path, i), trail) for i, n in enumerate(node.value)]
        elif isinstance(node.value, str) and "${" in node.value:
            return self._follow(node, node.value, path, trail)
        else:
            return node
        return Node(below, node.where, node.key_where)

    def _follow(self, node: Node, text: str, path: KeyPath, trail: tuple[str, ...]) -> Node:
        found = _REFERENCE.fullmatch(text)
        target_path = parse_path(found[1]) if found else ()
        target = self.root.get(target_path)
        if found is None:
            self._report(node, path, f"'{text}' mixes text and a reference", "make the reference the whole value")
        elif found[1] in trail:
            self._report(node, path, f"'{text}' refers to itself", "write the value out")
        elif target is None:
            parent = self.root.get(target_path[:-1])
            known = map(str, parent.children) if parent is not None else ()
            fix = (
                did_you_mean(str(target_path[-1]) if target_path else "", known)
                or "refer to a key of this recipe by its whole path"
            )
            self._report(node, path, f"'{text}' refers to nothing", fix)
        else:
            copied = self.resolve(target, target_path, (*trail, found[1]))
            return Node(copied.value, node.where, node.key_where)
        return node

    def _report(self, node: Node, path: KeyPath, what: str, fix: str) -> None:
        problem = Problem(str(node.where), dotted(path), what, fix)
        if problem not in self.problems:
            self.problems.append(problem)


def _without_free_keys(node: Node) -> Node:
    if isinstance(node.value, dict):
        kept: Any = {k: _without_free_keys(n) for k, n in node.value.items() if not str(k).startswith("x-")}
    elif isinstance(node.value, list):
        kept = [_without_free_keys(n) for n in node.value]
    else:
        return node
    return Node(kept, node.where, node.key_where)


def set_argument(text: str) -> tuple[str, Any]:
    """Split what follows ``--set``; the value is YAML.

    >>> set_argument("train.optimizer.lr=3e-4")
    ('train.optimizer.lr', 0.0003)

    Raises:
        InputError: there is no ``=``, or the value is not YAML.
    """
    key, equals, value = text.partition("=")
    if not equals or not parse_path(key):
        msg = f"--set {text}: no 'key=value'; write for example --set train.steps=100"
        raise InputError(msg)
    try:
        return key, yamlio.read(value, "value").plain
    except RecipeError as error:
        problems = [Problem(f"--set {text}", key, p.what, "check quotes and brackets") for p in error.problems]
        raise RecipeError(problems) from None
