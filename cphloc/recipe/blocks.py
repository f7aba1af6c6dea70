"""Blocks of a recipe: mappings with a ``type`` that names a registered component, and its arguments.

Finds the blocks, checks their arguments against the component's signature, and fills in defaults.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from cphloc.config.nodes import KeyPath, Node, dotted, from_plain
from cphloc.config.problems import Owner, problems_of
from cphloc.config.signature import WIRED, Argument, arguments_of, parse_signature
from cphloc.errors import InputError, NotFoundError, Problem, RecipeError, did_you_mean
from cphloc.registry import catalogue, kinds
from cphloc.registry.card import Card


class BlockAt(NamedTuple):
    """A block of a recipe: the kind of component, such as ``head``, the path in the recipe, and the mapping itself."""

    kind: str
    path: KeyPath
    node: Node


def blocks(root: Node) -> Iterator[BlockAt]:
    """Yield every block of a recipe, outer blocks before nested ones.

    Values that should be blocks but are not mappings are skipped; the recipe's pydantic model reports them.
    """
    for kind, path in _places(root):
        node = root.get(path)
        if node is not None and isinstance(node.value, dict):
            yield from _with_nested(BlockAt(kind, path, node))


def expand_names(root: Node) -> None:
    """Replace blocks written as a name alone in place, such as ``schedule: poly`` by ``schedule: {type: poly}``."""
    for kind, path in _places(root):
        node = root.get(path)
        if kind in ("schedule", "intensity") and node is not None:
            _expand_name(node)
    for block in list(blocks(root)):
        for argument in _arguments(block):
            node = block.node.children.get(argument.name)
            if argument.component is not None and node is not None:
                _expand_name(node)
                _add_default_block(node, argument)


def _expand_name(node: Node) -> None:
    if isinstance(node.value, str):
        node.value = {"type": Node(node.value, node.where, node.key_where)}


def _add_default_block(node: Node, argument: Argument) -> None:
    """Merge a nested block over the default block of its argument.

    The default ``type`` is used if none is given, and default values are used for arguments that the type has. So
    ``suppression: {score: 0.2}`` changes the score alone.
    """
    if not isinstance(argument.default, dict) or not isinstance(node.value, dict):
        return
    default = {key: from_plain(value, "default") for key, value in argument.default.items()}
    if "type" not in node.value:
        node.value = {"type": default["type"], **node.value}
    names = {a.name for a in _arguments(BlockAt(str(argument.component), (), node))}
    node.value |= {key: value for key, value in default.items() if key in names and key not in node.value}


def block_problems(root: Node, data_model: type[BaseModel]) -> list[Problem]:
    """Check every block against the signature of the component it names.

    Args:
        root: the whole recipe.
        data_model: pydantic model of the ``data`` section, whose fields are not arguments of the data set.
    """
    dims = root.get(("dims",))
    found: list[Problem] = []
    for block in blocks(root):
        common = set(data_model.model_fields) if block.kind == "dataset" else {"type"}
        found += check_block(block, root, dims.value if dims is not None else None, common)
    return found


def fill(root: Node, recipe_model: type[BaseModel], data_model: type[BaseModel]) -> None:
    """Fill in, in place, the default of every field and argument that the recipe leaves out.

    Args:
        root: a valid recipe.
        recipe_model: pydantic model of the recipe.
        data_model: pydantic model of the ``data`` section.
    """
    plain = recipe_model.model_validate(root.plain).model_dump(by_alias=True)
    _add_channels(root.children["data"])
    _add_defaults(root, plain)
    expand_names(root)
    for block in blocks(root):
        common = data_model.model_fields if block.kind == "dataset" else ()
        stated = block.node.children
        card = catalogue.card(block.kind, str(stated["type"].value))
        for argument in catalogue.arguments(card):
            if argument.name not in common:
                value = stated.pop(argument.name, None)
                stated[argument.name] = value or from_plain(argument.default, f"default of {card.name}")


def _places(root: Node) -> Iterator[tuple[str, KeyPath]]:
    yield "dataset", ("data",)
    intensity = root.get(("data", "intensity"))
    if intensity is not None and isinstance(intensity.value, list):
        yield from (("intensity", ("data", "intensity", i)) for i in intensity.children)
    else:
        yield "intensity", ("data", "intensity")
    yield from (("transform", ("data", "augment", i)) for i in _keys(root, ("data", "augment")))
    yield "backbone", ("model", "backbone")
    yield "neck", ("model", "neck")
    if _text(root.get(("model", "heads", "type"))) is None:
        yield from (("head", ("model", "heads", key)) for key in _keys(root, ("model", "heads")))
    yield "optimizer", ("train", "optimizer")
    yield "schedule", ("train", "schedule")


def _keys(root: Node, path: KeyPath) -> list[Any]:
    node = root.get(path)
    return list(node.children) if node is not None else []


def _with_nested(block: BlockAt) -> Iterator[BlockAt]:
    yield block
    for argument in _arguments(block):
        node = block.node.children.get(argument.name)
        if argument.component is None or node is None:
            continue
        path = (*block.path, argument.name)
        if isinstance(node.value, dict):
            yield from _with_nested(BlockAt(argument.component, path, node))
        elif isinstance(node.value, list):
            for i, item in enumerate(node.value):
                if isinstance(item.value, dict):
                    yield from _with_nested(BlockAt(argument.component, (*path, i), item))


def _arguments(block: BlockAt) -> list[Argument]:
    """Arguments of the component that a block names; empty for unknown components, which `check_block` reports."""
    named = block.node.children.get("type")
    try:
        return catalogue.arguments(catalogue.card(block.kind, name)) if (name := _text(named)) is not None else []
    except InputError:
        return []


def check_block(block: BlockAt, root: Node, dims: Any, common: set[str]) -> Iterator[Problem]:
    """Check one block against the signature of the component it names, and yield its problems.

    Args:
        block: the block to check.
        root: the whole recipe.
        dims: number of spatial axes that the recipe states, as written.
        common: keys of the block that are not arguments of the component.
    """
    kind, path, node = block
    named = node.children.get("type")
    name = _text(named)
    if named is None or name is None:
        if (misspelt := misspelt_type(node)) is not None:
            at = str(node.children[misspelt].key_where)
            yield Problem(at, dotted((*path, misspelt)), f"unknown key '{misspelt}'", "did you mean 'type'?")
            return
        choices = f"one of the {kinds.plural(kind)}: {kinds.some(catalogue.cards(kind))}"
        at = str(node.key_where if named is None else named.where)
        what, fix = ("missing", f"add 'type:', {choices}") if named is None else ("not a name", f"give {choices}")
        yield Problem(at, dotted((*path, "type")), what, fix)
        return
    at_type, type_path = str(named.where), dotted((*path, "type"))
    try:
        card = catalogue.card(kind, name)
        model = arguments_model(card.import_, catalogue.stated_signature(card), frozenset(common))
    except NotFoundError:
        yield Problem(at_type, type_path, *catalogue.missing(kind, name))
        return
    except (RecipeError, InputError) as error:
        yield Problem(at_type, type_path, f"the card of {kind} '{name}' is broken: {error}", "fix the card")
        return
    if dims in (2, 3) and dims not in card.dims:
        what = f"the {kind} '{card.name}' works in {card.dims[0]}-D, and this recipe has dims: {dims}"
        yield Problem(at_type, type_path, what, f"choose another: cphloc list {kinds.plural(kind)}")
    stated = {key: child.plain for key, child in node.children.items() if key not in common}
    try:
        model.model_validate(stated, context={"dims": dims})
    except ValidationError as error:
        yield from problems_of(error, model, root, path, _owner(card, common - {"type"}))


def misspelt_type(node: Node) -> str | None:
    """Return the key of a block that is meant to be ``type``, such as ``typ``; ``None`` if it has a ``type``."""
    if "type" in node.children:
        return None
    return next((str(key) for key in node.children if did_you_mean(str(key), ["type"])), None)


def _owner(card: Card, siblings: set[str]) -> Owner:
    renamed = {old: f"it is now called '{new}': cphloc migrate" for old, new in card.renamed_arguments.items()}
    wired = dict.fromkeys(WIRED, "remove it, because it is set automatically")
    return Owner(f"{card.kind} '{card.name}'", tuple(sorted(siblings)), renamed | wired)


@functools.cache
def arguments_model(target: str | None, signature: str, common: frozenset[str]) -> type[BaseModel]:
    """Create a pydantic model that validates the arguments of a component.

    Args:
        target: import path of the component, whose signature is read.
        signature: signature as text of the arguments that the class does not have.
        common: names of arguments to leave out.
    """
    arguments = (*(arguments_of(target) if target else ()), *parse_signature(signature))
    fields: dict[str, Any] = {
        a.name: (a.annotation, Field(a.default, description=a.meaning)) for a in arguments if a.name not in common
    }
    config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=())
    return create_model("Arguments", __config__=config, **fields)


def _add_channels(data: Node) -> None:
    """Fill in the channels of the data set if the recipe states none."""
    card, stated = catalogue.card("dataset", str(data.children["type"].value)), data.get(("channels",))
    channels = catalogue.channels(card)
    if channels and (stated is None or stated.value is None):
        data.children["channels"] = from_plain(list(channels), f"default of {card.name}")


def _add_defaults(node: Node, plain: Any) -> None:
    if isinstance(plain, dict) and isinstance(node.value, dict):
        for key, value in plain.items():
            if key in node.value:
                _add_defaults(node.value[key], value)
            else:
                node.value[key] = from_plain(value, "default")
    elif isinstance(plain, list) and isinstance(node.value, list):
        for child, value in zip(node.value, plain, strict=True):
            _add_defaults(child, value)


def _text(node: Node | None) -> str | None:
    return node.value if node is not None and isinstance(node.value, str) else None
