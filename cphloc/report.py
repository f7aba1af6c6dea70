"""Turn what pydantic finds into problems a person can act on, each at the position that wrote the value."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from cphloc.argument_schema import words
from cphloc.errors import Problem, did_you_mean
from cphloc.nodes import KeyPath, Node, dotted

_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a block or mapping",
    "model_type": "a block",
    "model_attributes_type": "a block",
    "none_required": "null",
}
_SIGNS = {
    "greater_than": ("gt", ">"),
    "greater_than_equal": ("ge", ">="),
    "less_than": ("lt", "<"),
    "less_than_equal": ("le", "<="),
}


def problems_of(
    error: ValidationError, model: type[BaseModel], root: Node, base: KeyPath = (), owner: str = ""
) -> list[Problem]:
    """Describe every error of ``error``, one problem a place.

    Args:
        error: what validating ``root.get(base).plain`` against ``model`` raised.
        model: the pydantic model.
        root: the tree with positions.
        base: where in the tree the validated block stands.
        owner: whose keys they are, such as ``head 'unet'``, for the message about an unknown one.
    """
    block = root.get(base) or root
    by_path: dict[KeyPath, list[dict[str, Any]]] = {}
    for found in _without_union_noise(error.errors(include_url=False), block):
        by_path.setdefault(found["path"], []).append(found)
    meant = {(*p[:-1], _intended(p, model)) for p, found in by_path.items() if found[0]["type"] == "extra_forbidden"}
    lacking = [p for p, found in by_path.items() if found[0]["type"] == "missing" and p in meant]
    return [_problem(p, found, model, root, base, owner) for p, found in by_path.items() if p not in lacking]


def _intended(path: KeyPath, model: type[BaseModel]) -> str:
    """The key that an unknown one was probably meant to be, so that it is not reported as missing too."""
    return did_you_mean(str(path[-1]), _keys_of(_model_at(model, path[:-1]))).removeprefix("did you mean '")[:-2]


def _keys_of(model: type[BaseModel] | None) -> list[str]:
    return [f.alias or name for name, f in model.model_fields.items()] if model is not None else []


def position(root: Node, path: KeyPath, of_key: bool = False) -> str:
    """Where ``path`` was written; for a missing one, where its nearest existing parent's key was."""
    node = root.get(path)
    if node is not None:
        return str(node.key_where if of_key else node.where)
    while path and node is None:
        path = path[:-1]
        node = root.get(path)
    return str((node or root).key_where)


def _without_union_noise(errors: Iterable[dict[str, Any]], block: Node) -> Iterator[dict[str, Any]]:
    """Add ``path``, the part of ``loc`` that the data has; of a union's complaints keep those of the deepest place."""
    errors = [{**e, "path": _real_path(e["loc"], block, e["type"] in ("missing", "extra_forbidden"))} for e in errors]
    unions = {e["path"][:1] for e in errors if len(e["path"]) != len(e["loc"])}
    deepest = {top: max(len(e["path"]) for e in errors if e["path"][:1] == top) for top in unions}
    for found in errors:
        if len(found["path"]) >= deepest.get(found["path"][:1], 0):
            yield found


def _real_path(loc: tuple[Any, ...], block: Node, keep_last: bool) -> KeyPath:
    """Drop from ``loc`` the names of union members, which the data does not have."""
    path: list[Any] = []
    node: Node | None = block
    for i, key in enumerate(loc):
        children = node.children if node is not None else {}
        if key in children:
            path.append(key)
            node = children[key]
        elif keep_last and i == len(loc) - 1:
            path.append(key)
    return tuple(path)


def _problem(
    path: KeyPath, errors: list[dict[str, Any]], model: type[BaseModel], root: Node, base: KeyPath, owner: str
) -> Problem:
    first = errors[0]
    full = (*base, *path)
    parent = _model_at(model, path[:-1])
    if first["type"] == "extra_forbidden":
        known = _keys_of(parent)
        what = f"unknown key '{path[-1]}'" + (f" of {owner}" if owner else "")
        fix = did_you_mean(str(path[-1]), known) or f"known: {', '.join(known) or 'none'}"
        return Problem(position(root, full, of_key=True), dotted(full), what, fix)
    field = _field_at(model, path)
    meant = words(_annotation(field)) if field is not None else "a value of the right type"
    if first["type"] == "missing":
        of = f" ({owner} needs it)" if owner else ""
        return Problem(position(root, full), dotted(full), f"missing{of}", f"add '{path[-1]}:' with {_a(meant)}")
    value = root.get(full).plain if root.get(full) is not None else None
    what = " and ".join(dict.fromkeys(_complaint(e, value) for e in errors if e["type"] not in _EXPECTED))
    expected = list(dict.fromkeys(_EXPECTED[e["type"]] for e in errors if e["type"] in _EXPECTED))
    if expected:
        what = f"{_quoted(value)} is not {' or '.join(expected)}"
    fix = _conversion(value, expected) or _nearest(errors, value) or f"give {_a(meant)}{_default(field)}"
    return Problem(position(root, full), dotted(full), what, fix)


def _complaint(error: dict[str, Any], value: Any) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind in _SIGNS:
        key, sign = _SIGNS[kind]
        return f"{_quoted(value)} is not {sign} {context[key]}"
    if kind == "literal_error":
        return f"{_quoted(value)} is not one of {context['expected']}"
    if kind == "per_axis":
        return f"{context['length']} values for {context['dims']} axes"
    if kind in ("too_short", "too_long"):
        return f"{context['actual_length']} values"
    return f"{_quoted(value)}: {error['msg'].removeprefix('Value error, ')}"


def _nearest(errors: list[dict[str, Any]], value: Any) -> str:
    choices = [
        e["ctx"]["expected"].replace("'", "").replace(" or ", ", ") for e in errors if e["type"] == "literal_error"
    ]
    return did_you_mean(str(value), [c for text in choices for c in text.split(", ")])


def _conversion(value: Any, expected: list[str]) -> str:
    """What to write where the value is right but its type is not."""
    if "true or false" in expected and str(value).casefold() in ("yes", "no", "on", "off"):
        return f"write {'true' if str(value).casefold() in ('yes', 'on') else 'false'}"
    if {"a whole number", "a number"} & set(expected) and isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            return ""
        if number.is_integer() or "a number" in expected:
            return "remove the quotes"
    if "a whole number" in expected and isinstance(value, float) and value.is_integer():
        return f"write {int(value)}"
    if "text" in expected and isinstance(value, int | float) and len(expected) == 1:
        return f"write '{value}' in quotes"
    if expected and set(expected) <= {"a block", "a block or mapping"} and isinstance(value, str):
        return f"write {{type: {value}}}"
    return ""


def _default(field: FieldInfo | None) -> str:
    if field is None or field.is_required() or field.default is None or field.default_factory is not None:
        return ""
    return f" (default {field.default})"


def _quoted(value: Any, most: int = 60) -> str:
    text = f"'{value}'" if isinstance(value, str) else "null" if value is None else str(value)
    text = text.lower() if isinstance(value, bool) else text
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _a(meant: str) -> str:
    return meant if meant.split()[0] in ("text", "true", "null", "one") or "|" in meant else f"a {meant}"


def _annotation(field: FieldInfo) -> Any:
    return Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation


def _field_at(model: type[BaseModel], path: KeyPath) -> FieldInfo | None:
    """The field that the deepest model on ``path`` has for it."""
    field = None
    for i, key in enumerate(path):
        owner = _model_at(model, path[:i])
        if owner is None:
            break
        field = next((f for name, f in owner.model_fields.items() if key in (name, f.alias)), field)
    return field


def _model_at(model: type[BaseModel], path: KeyPath) -> type[BaseModel] | None:
    current: Any = model
    for key in path:
        if not (isinstance(current, type) and issubclass(current, BaseModel)):
            return None
        field = next((f for name, f in current.model_fields.items() if key in (name, f.alias)), None)
        current = _model_in(field.annotation) if field is not None else None
    return current


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model class in an annotation such as ``Neck | None``."""
    candidates = (annotation, *get_args(annotation))
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)
