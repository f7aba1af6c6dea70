"""Translate the annotations of constructor arguments into types for pydantic, and types into words for messages.

Only types whose values a YAML file can hold are translated: ``int``, ``float``, ``bool``, ``str``, ``None``,
``Literal``, lists, tuples and mappings of these, unions, ``nn.Module`` for a nested component, and the names of
`cphloc.config.argument_types`.
"""

from __future__ import annotations

import ast
import functools
import types
from collections.abc import Callable
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import AfterValidator, AllowInfNan, Strict, ValidationInfo
from pydantic_core import PydanticCustomError

from cphloc.config import argument_types
from cphloc.errors import InputError

NestedBlock = dict[str, Any]
"""Type of the mapping by which a recipe names a nested component; its keys are checked against that component."""

Lookup = Callable[[str], ast.expr | None]
"""Function from a name to the expression that its module assigns to it, or ``None``."""


def annotation_type(node: ast.expr, lookup: Lookup) -> Any:
    """Translate a parsed annotation into a type for pydantic.

    Args:
        node: the annotation, parsed.
        lookup: resolves aliases such as ``Norm = Literal["batch", "instance"]``.

    Raises:
        InputError: a recipe cannot hold such a value; the message quotes the annotation.
    """

    inner = functools.partial(annotation_type, lookup=lookup)

    match node:
        case ast.Constant(value=None):
            return None
        case ast.Constant(value=str(quoted)):
            return inner(ast.parse(quoted, mode="eval").body)
        case ast.BinOp(op=ast.BitOr(), left=left, right=right):
            return Union[inner(left), inner(right)]
        case ast.Subscript(value=(ast.Name(id=name) | ast.Attribute(attr=name)), slice=parts) if name in _GENERIC:
            return _GENERIC[name](parts.elts if isinstance(parts, ast.Tuple) else [parts], inner)
        case ast.Name(id=name) | ast.Attribute(attr=name) if name in _PLAIN:
            return _PLAIN[name]
        case ast.Name(id=name) if (alias := lookup(name)) is not None:
            return inner(alias)
    msg = f"the type '{ast.unparse(node)}', which a recipe cannot hold; see cphloc.config.argument_types"
    raise InputError(msg)


def words(annotation: Any) -> str:
    """Describe a type in words, for messages and ``cphloc show``.

    >>> words(list[argument_types.PositiveInt] | None)
    'list of (whole number > 0) or null'
    """
    if annotation is None or annotation is type(None):
        return "null"
    if annotation == NestedBlock:
        return "block"
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        if _PER_AXIS in args:
            return f"{words(get_args(args[0])[0])}, or one per axis"
        return " ".join([words(args[0]), " and ".join(filter(None, map(_range_words, args[1:])))]).strip()
    if origin is Literal:
        return " or ".join(filter(None, (", ".join(map(str, args[:-1])), str(args[-1]))))
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(words, args)))
    if origin is list:
        return f"list of {_many(words(args[0]))}"
    if origin is tuple:
        return f"list of {len(args)}: {', '.join(map(words, args))}"
    if origin is dict:
        return f"mapping of {words(args[0])} to {words(args[1])}"
    return _WORDS.get(annotation, "block")


_WORDS = {int: "whole number", float: "number", str: "text", bool: "true or false", list: "list", dict: "block"}
_MANY = {"whole number": "whole numbers", "number": "numbers", "text": "text", "block": "blocks"}


def _many(text: str) -> str:
    return _MANY.get(text, f"({text})")


def _range_words(bound: Any) -> str:
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    return " and ".join(f"{sign} {getattr(bound, key)}" for key, sign in signs.items() if hasattr(bound, key))


def _finite(annotation: Any) -> Any:
    return Annotated[annotation, AllowInfNan(False)]


def _one_per_axis(value: Any, info: ValidationInfo) -> Any:
    """Reject a list whose length differs from the recipe's ``dims``."""
    dims = (info.context or {}).get("dims")
    if isinstance(value, list) and dims in (2, 3) and len(value) != dims:
        raise PydanticCustomError("per_axis", "one per axis", {"dims": dims, "length": len(value)})
    return value


_PER_AXIS = AfterValidator(_one_per_axis)

_WEIGHT = _finite(argument_types.Weight)

_PLAIN: dict[str, Any] = {
    "int": int,
    "float": _finite(float),
    "bool": bool,
    "str": str,
    "Path": str,
    "Module": NestedBlock,
    "Suppression": NestedBlock,
    "PositiveInt": argument_types.PositiveInt,
    "NonNegativeInt": argument_types.NonNegativeInt,
    "PositiveFloat": _finite(argument_types.PositiveFloat),
    "NonNegativeFloat": _finite(argument_types.NonNegativeFloat),
    "UnitInterval": _finite(argument_types.UnitInterval),
    "ClassWeighting": dict[str, _WEIGHT] | list[_WEIGHT] | Literal["balanced"] | None,
    "PerAxis": Annotated[argument_types.PositiveInt | list[argument_types.PositiveInt], _PER_AXIS],
}

Inner = Callable[[ast.expr], Any]


def _list(elements: list[ast.expr], inner: Inner) -> Any:
    return list[inner(elements[0])]


def _mapping(elements: list[ast.expr], inner: Inner) -> Any:
    return dict[inner(elements[0]), inner(elements[1])]


def _tuple(elements: list[ast.expr], inner: Inner) -> Any:
    if isinstance(elements[-1], ast.Constant) and elements[-1].value is ...:
        return list[inner(elements[0])]
    return Annotated[tuple[tuple(map(inner, elements))], Strict(False)]


def _annotated(elements: list[ast.expr], inner: Inner) -> Any:
    """Translate ``Annotated[int, Gt(0)]``, a type with bounds from annotated_types."""
    bounds = []
    for bound in elements[1:]:
        if not (isinstance(bound, ast.Call) and isinstance(bound.func, ast.Name)):
            msg = f"the bound '{ast.unparse(bound)}', which is not one of annotated_types"
            raise InputError(msg)
        bounds.append(getattr(annotated_types, bound.func.id)(*map(ast.literal_eval, bound.args)))
    return Annotated[(inner(elements[0]), *bounds)]


_GENERIC: dict[str, Callable[[list[ast.expr], Inner], Any]] = {
    "Literal": lambda elements, inner: Literal[tuple(map(ast.literal_eval, elements))],
    "Optional": lambda elements, inner: Union[inner(elements[0]), None],
    "Union": lambda elements, inner: Union[tuple(map(inner, elements))],
    "Annotated": _annotated,
    "list": _list,
    "Sequence": _list,
    "tuple": _tuple,
    "dict": _mapping,
    "Mapping": _mapping,
}
