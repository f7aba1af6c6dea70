"""Merge a recipe file, the recipes it extends, and overrides into one tree of values with source positions.

Mappings are merged and lists are replaced. A block whose ``type`` changes is replaced as a whole, except that ``data``
keeps the fields in `PROCESSING`, such as patch, spacing and augmentation; where the type of ``data`` changes, the texts
of ``about`` are not inherited, which describe a model of the parent's data. An inherited value is left out by null:
``mask: null`` removes a head, and where null is no value of a field, such as ``augment: null``, its default holds.
References are resolved after merging, see `cphloc.recipe.references`. Keys that start with ``x-`` are
free for notes and for values to refer to, and are removed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from cphloc import paths
from cphloc.config import yamlio
from cphloc.config.nodes import KeyPath, Node, dotted, from_plain, parse_path
from cphloc.errors import InputError, NotFoundError, Problem, RecipeError, did_you_mean
from cphloc.recipe.references import resolved

MAX_PARENTS, MOST_PARTS = 20, 100
"""Longest chain of recipes that extend each other, and most parts of a dotted key."""
STUDIES = "lecture"
"""Subfolder of ``recipes`` with study files, which compare recipes and are not recipes themselves."""

SWEEP = "sweep"
"""Block of a recipe with the values that ``cphloc sweep`` tries; everything else leaves it out."""

_BY_HEAD = ("weights", "merged_classes", "seeds")
"""Keys of ``model`` that are mappings by the name of a head."""
_HEADS = ("model", "heads")

ModelOf = Callable[[str], Mapping[str, Any] | None]
"""Returns the plain block ``model`` of an entry or run by its name; ``None`` where it cannot be read."""

_NOT_INHERITED = ("name", "description")

PROCESSING = ("spacing_mm", "intensity", "patch", "fit", "pad", "augment", "foreground", "workers", "tiles", "skip_bad")
"""Fields of ``data`` that apply to any data set: how cases are processed into samples."""


def assemble(
    source: str | Path | Mapping[str, Any] | Node,
    overrides: Mapping[str, Any] | None = None,
    model_of: ModelOf | None = None,
) -> Node:
    """Read ``source``, merge it over the recipes it extends, apply ``overrides``, then resolve references.

    Args:
        source: a file, the name of a shipped recipe, a mapping, or a tree with source positions.
        overrides: values by dotted key, plain or as nodes with source positions.
        model_of: returns the block ``model`` of the entry or run that ``from`` names, which the recipe inherits.

    Raises:
        NotFoundError: there is no such file or shipped recipe.
        RecipeError: a file, override or reference is invalid.
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
        root = _without_dropped_heads(_set(root, key, path, node), root)
    if isinstance(root.value, dict):
        root.value.pop(SWEEP, None)
    return _without_free_keys(resolved(_with_model(root, model_of)))


def search_space(source: str | Path) -> Node | None:
    """Read the search space of a recipe, the block ``sweep``, which is no part of what is trained.

    Args:
        source: a file, or the name of a shipped recipe.

    Raises:
        NotFoundError: there is no such file or shipped recipe.
        RecipeError: a file is invalid.
    """
    return _read(find(source), []).get((SWEEP,))


def _with_model(root: Node, model_of: ModelOf | None) -> Node:
    """Merge the model of a recipe over that of the entry it starts from; heads that it does not list are left out."""
    start, model = root.get(("from",)), root.get(("model",))
    inherited = model_of(start.value) if model_of is not None and start and isinstance(start.value, str) else None
    if start is None or inherited is None or not isinstance(root.value, dict):
        return root
    parent = from_plain(inherited, f"from {start.value}")
    listed = root.get(_HEADS)
    if listed is not None and isinstance(listed.value, dict):
        for name in parent.children["heads"].children.keys() - listed.children.keys():
            parent.children["heads"].children[name].value = None
        for name in parent.children["heads"].children.keys() & listed.children.keys():
            if "classes" in listed.children[name].children:  # one value: the classes of the recipe are all there are
                parent.children["heads"].children[name].children.pop("classes", None)
                _remove_of_head(parent, (), name, ("merged_classes",))
    whole = Node({**root.value, "model": parent}, root.where, root.key_where)
    if model is None:
        return whole
    merged = Node({**root.value, "model": merge(parent, model, ("model",))}, root.where, root.key_where)
    return _without_dropped_heads(merged, whole)


def find(source: str | Path, folder: Path | None = None) -> Path:
    """Return the path of a recipe file.

    Args:
        source: a path, or the name of a shipped recipe with or without its folder, such as ``systems/retina`` or
            ``retina``.
        folder: base folder of relative paths; by default the working directory.

    Raises:
        NotFoundError: there is no such file or shipped recipe.
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
    """Return the paths of all shipped recipes by name, such as ``unet3d-ct`` or ``systems/retina``."""
    folder = paths.shipped("recipes")
    files = (p for p in sorted(folder.rglob("*.yaml")) if p.parent.name != STUDIES)
    return {p.relative_to(folder).with_suffix("").as_posix(): p for p in files}


def merge(parent: Node, child: Node, path: KeyPath = ()) -> Node:
    """Merge ``child`` over ``parent``; values of ``child`` win.

    Args:
        parent: tree of the recipe that is extended.
        child: tree of the extending recipe.
        path: path of both in the recipe.

    >>> parent, child = from_plain({"a": {"b": 1, "c": [1]}}, "p"), from_plain({"a": {"c": [2]}}, "c")
    >>> merge(parent, child).plain
    {'a': {'b': 1, 'c': [2]}}
    """
    if not (isinstance(parent.value, dict) and isinstance(child.value, dict)):
        return _dropping(child)
    merged = dict(parent.value)
    if _changes_type(parent, child):
        kept = PROCESSING if path == ("data",) else ()
        merged = {key: node for key, node in merged.items() if key in kept}
    if not path and "data" in merged and "data" in child.value and _changes_type(merged["data"], child.value["data"]):
        merged.pop("about", None)
    for key, node in child.value.items():
        if key in merged:
            merged[key] = merge(merged[key], node, (*path, key))
        else:  # of heads, null is a mistake where none of that name is inherited
            merged[key] = node if path == _HEADS else _dropping(node)
    return Node(merged, child.where, child.key_where)


def _dropping(child: Node) -> Node:
    """Mark a null that is merged over another recipe as one that leaves out what that states."""
    return Node(None, child.where, child.key_where, drops=True) if child.value is None else child


def _changes_type(parent: Node, child: Node) -> bool:
    old, new = parent.get(("type",)), child.get(("type",))
    return old is not None and new is not None and old.value != new.value


def _without_dropped_heads(root: Node, before: Node) -> Node:
    """Remove, in place, the heads that ``before`` has and that ``root`` sets to null, and what is stated for them.

    Args:
        root: a recipe merged over ``before``.
        before: the recipe that is extended.
    """
    heads, earlier = root.get(_HEADS), before.get(_HEADS)
    if heads is None or earlier is None:
        return root
    for name in [name for name, node in heads.children.items() if node.value is None and name in earlier.children]:
        del heads.children[name]
        _remove_of_head(root, ("model",), name, _BY_HEAD)
    return root


def _remove_of_head(root: Node, path: KeyPath, head: Any, keys: Iterable[str]) -> None:
    """Remove, in place, what the ``keys`` below ``path`` hold for a head."""
    for key in keys:
        if (node := root.get((*path, key))) is not None and isinstance(node.value, dict):
            node.children.pop(head, None)


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
        if len(trail) > MAX_PARENTS:
            msg = f"a chain of more than {MAX_PARENTS} recipes; merge some of them"
            raise InputError(msg)
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
    whole = Node(inherited, parent.where, parent.key_where)
    return _without_dropped_heads(merge(whole, _renamed(root, parent)), whole)


def _renamed(root: Node, whole: Node | None) -> Node:
    """Replace earlier names of components and arguments in ``root``, which will be merged over ``whole``."""
    from cphloc.recipe.renames import renamings  # lazy: reads all cards, which listing recipes does not need

    for _ in renamings(root, whole):
        pass
    return root


def _renamed_override(root: Node, path: KeyPath, value: Node) -> tuple[KeyPath, Node]:
    """Replace earlier names in the path and value of an override of ``root``."""
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
    """Return a copy of ``root`` with ``value`` merged in at ``whole_path``; ``key`` is the override as written."""

    def place(node: Node | None, path: KeyPath, done: KeyPath) -> Node:
        """Return a copy of ``node`` with the value merged in at ``path``; ``done`` is the path walked so far."""
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


def _without_free_keys(node: Node) -> Node:
    if isinstance(node.value, dict):
        kept: Any = {k: _without_free_keys(n) for k, n in node.value.items() if not str(k).startswith("x-")}
    elif isinstance(node.value, list):
        kept = [_without_free_keys(n) for n in node.value]
    else:
        return node
    return Node(kept, node.where, node.key_where)


def set_argument(text: str) -> tuple[str, Any]:
    """Parse an argument of ``--set``, ``key=value`` with a value in YAML, into a dotted key and a value.

    >>> set_argument("train.optimizer.lr=3e-4")
    ('train.optimizer.lr', 0.0003)

    Raises:
        InputError: there is no ``=``, or the value is not valid YAML.
    """
    key, equals, value = text.partition("=")
    if not equals or not 0 < len(parse_path(key)) <= MOST_PARTS:
        msg = f"--set {text[:200]}: no 'key=value'; write for example --set train.steps=100"
        raise InputError(msg)
    try:
        return key, yamlio.read(value, "value").plain
    except RecipeError as error:
        problems = [Problem(f"--set {text[:200]}", key, p.what, "check quotes and brackets") for p in error.problems]
        raise RecipeError(problems) from None
