"""Convert validation errors of pydantic to problems with source position, description and suggested fix."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from cphloc.config.argument_schema import words
from cphloc.config.nodes import Key, KeyPath, Node, dotted
from cphloc.config.yamlio import inline
from cphloc.errors import Problem, did_you_mean

_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a block",
    "none_required": "null",
}
_SIGNS = {
    "greater_than": ("gt", ">"),
    "greater_than_equal": ("ge", ">="),
    "less_than": ("lt", "<"),
    "less_than_equal": ("le", "<="),
}


@dataclass(frozen=True)
class Owner:
    """The block whose keys are validated, for the wording of messages.

    Args:
        name: such as ``head 'unet'``; empty for the recipe itself.
        siblings: keys that are allowed beside those of the model.
        advice: for keys that are often written by mistake, what to do instead.
    """

    name: str = ""
    siblings: tuple[str, ...] = ()
    advice: Mapping[str, str] = field(default_factory=dict)


_MOST_ERRORS = 50
"""More errors are left out of a report: a file of a stranger may have one at each of its values."""


def problems_of(
    error: ValidationError, model: type[BaseModel], root: Node, base: KeyPath = (), owner: Owner | None = None
) -> list[Problem]:
    """Convert a validation error to problems, one per place in the file.

    Args:
        error: raised when ``root.get(base).plain`` was validated against ``model``.
        model: the pydantic model.
        root: the tree with positions.
        base: path of the validated block in the tree.
        owner: the validated block; default: the recipe itself.
    """
    report = _Report(model, root, base, owner or Owner())
    by_path: dict[KeyPath, list[dict[str, Any]]] = {}
    for found in _without_union_noise(error.errors(include_url=False)[:_MOST_ERRORS], root.get(base) or root):
        by_path.setdefault(found["path"], []).append(found)
    meant = {report.intended(path) for path, found in by_path.items() if found[0]["type"] == "extra_forbidden"}
    lacking = {path for path, found in by_path.items() if found[0]["type"] == "missing" and path in meant}
    return [report.problem(path, found) for path, found in by_path.items() if path not in lacking]


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """Sort problems by file, line and column, without duplicates."""

    def _key(problem: Problem) -> tuple[str, int, int]:
        source, *numbers = problem.where.rsplit(":", 2)
        line, column = (int(n) for n in numbers) if len(numbers) == 2 and "".join(numbers).isdigit() else (0, 0)
        return source, line, column

    return sorted(dict.fromkeys(problems), key=_key)


def position(root: Node, path: KeyPath, of_key: bool = False) -> str:
    """Source position of ``path``; for a missing key, that of its nearest existing parent."""
    node = root.get(path)
    if node is not None:
        return str(node.key_where if of_key else node.where)
    while path and node is None:
        path = path[:-1]
        node = root.get(path)
    return str((node or root).key_where)


@dataclass(frozen=True)
class _Report:
    """Converts the errors of one validated block to problems."""

    model: type[BaseModel]
    root: Node
    base: KeyPath
    owner: Owner

    def problem(self, path: KeyPath, errors: list[dict[str, Any]]) -> Problem:
        """Convert the errors at one path to a problem."""
        full = (*self.base, *path)
        kind = errors[0]["type"]
        if kind == "extra_forbidden":
            what, fix = self._unknown(path)
            return Problem(position(self.root, full, of_key=True), dotted(full), what, fix)
        if errors[0]["loc"][-1:] == ("[key]",) and kind.startswith("int"):
            what, fix = _wrong_key(path[-1])
            return Problem(position(self.root, full, of_key=True), dotted(full), what, fix)
        annotation = _annotation_at(self.model, path)
        meant = "a value of another type" if annotation is None else words(annotation)
        if kind == "missing" and isinstance(errors[0]["loc"][-1], str):
            what = f"missing ({self.owner.name} needs it)" if self.owner.name else "missing"
            return Problem(position(self.root, full), dotted(full), what, f"add '{path[-1]}:' with {_a(meant)}")
        node = self.root.get(full)
        value = node.plain if node is not None else None
        what, advice = _complaint(value, errors, meant)
        fix = advice or f"give {_a(meant)}{_default(_field_at(self.model, path))}"
        return Problem(position(self.root, full), dotted(full), what, fix)

    def intended(self, path: KeyPath) -> KeyPath:
        """The path that an unknown key is probably a misspelling of, which is then not reported as missing too."""
        suggestion = did_you_mean(str(path[-1]), self._known(path))
        return (*path[:-1], suggestion.removeprefix("did you mean '").removesuffix("'?"))

    def _unknown(self, path: KeyPath) -> tuple[str, str]:
        key, known = str(path[-1]), self._known(path)
        what = f"unknown argument '{key}' of {self.owner.name}" if self.owner.name else f"unknown key '{key}'"
        fix = self.owner.advice.get(key) or did_you_mean(key, known) or f"known: {', '.join(known) or 'none'}"
        return what, fix

    def _known(self, path: KeyPath) -> list[str]:
        model = _model_in(_annotation_at(self.model, path[:-1]))
        own = [f.alias or name for name, f in model.model_fields.items()] if model is not None else []
        return [*own, *self.owner.siblings]


def _without_union_noise(errors: Iterable[Any], block: Node) -> Iterator[dict[str, Any]]:
    """Add to every error its path in the data; of the errors of a union, keep those with the longest path."""
    errors = [{**e, "path": _real_path(e, block)} for e in errors]
    unions = {e["path"][:1] for e in errors if len(e["path"]) != len(e["loc"])}
    deepest = {top: max(len(e["path"]) for e in errors if e["path"][:1] == top) for top in unions}
    for found in errors:
        if len(found["path"]) >= deepest.get(found["path"][:1], 0):
            yield found


def _real_path(error: dict[str, Any], block: Node) -> KeyPath:
    """Path of an error in the data: pydantic's location without the names of union members."""
    path: list[Key] = []
    node: Node | None = block
    loc = error["loc"]
    names_absent_key = error["type"] in ("missing", "extra_forbidden") and isinstance(loc[-1], str)
    for i, key in enumerate(loc):
        children = node.children if node is not None else {}
        if key in children:
            path.append(key)
            node = children[key]
        elif names_absent_key and i == len(loc) - 1:
            path.append(key)
    return tuple(path)


def _wrong_key(key: Key) -> tuple[str, str]:
    """Describe a key that must be a number, and what to write instead."""
    if str(key).isdigit():
        return f"the key '{key}' is text", f"write {key} without quotes, or, as in JSON, a list without numbers"
    return f"the key {_quoted(key)} is not a whole number", "number the items, {1: ..., 2: ...}, or write a list"


def _complaint(value: Any, errors: list[dict[str, Any]], meant: str) -> tuple[str, str]:
    """Describe what is wrong with a value, and what to write instead, empty where that is not known."""
    special = [e for e in errors if e["type"] not in _EXPECTED]
    if special:
        what, advice = _special(value, special[0])
        return what, advice
    expected = list(dict.fromkeys(_EXPECTED[e["type"]] for e in errors))
    if meant.startswith("block"):
        expected = ["a block" if e == "a mapping" else e for e in expected]
    return f"{_quoted(value)} is not {' or '.join(expected)}", _conversion(value, expected)


def _special(value: Any, error: dict[str, Any]) -> tuple[str, str]:
    """Describe what is wrong with a value of the right type, such as one out of range."""
    kind, context = error["type"], error.get("ctx", {})
    if kind in _SIGNS:
        key, sign = _SIGNS[kind]
        return f"{_quoted(value)} is not {sign} {context[key]:g}", ""
    if kind == "literal_error":
        return f"{_quoted(value)} is not one of {context['expected'].replace(chr(39), '')}", _choice(value, context)
    if kind == "per_axis":
        return f"{context['length']} values for {context['dims']} axes", ""
    if kind == "too_short":
        return f"{context['actual_length']} values", f"give at least {context['min_length']}"
    if kind in ("too_long", "missing"):
        return f"{_quoted(value)} has not the right length", ""
    if kind == "string_pattern_mismatch":
        return f"{_quoted(value)} does not match {context['pattern']}", ""
    what, _, advice = error["msg"].removeprefix("Value error, ").partition("; ")
    return f"{_quoted(value)}: {what}", advice


def _choice(value: Any, context: dict[str, Any]) -> str:
    """Suggest the allowed value that was probably meant."""
    choices = context["expected"].replace(" or ", ", ").split(", ")
    if str(value) in choices:
        return "remove the quotes"
    return did_you_mean(str(value), [choice.strip("'") for choice in choices])


def _conversion(value: Any, expected: list[str]) -> str:
    """Suggest the value in the expected type, such as a number without its quotes."""
    if "true or false" in expected and str(value).casefold() in ("yes", "no", "on", "off"):
        return f"write {'true' if str(value).casefold() in ('yes', 'on') else 'false'}"
    if {"a whole number", "a number"} & set(expected) and isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            return ""
        return "remove the quotes" if number.is_integer() or "a number" in expected else ""
    if "a whole number" in expected and isinstance(value, float) and value.is_integer():
        return f"write {int(value)}"
    if expected == ["text"] and isinstance(value, int | float):
        return f"write '{inline(value)}' in quotes"
    if "a block" in expected and isinstance(value, str):
        return f"write {{type: {value}}}"
    if "a block" in expected and value is None:
        return "indent what belongs to it"
    return ""


def _default(field: FieldInfo | None) -> str:
    if field is None or field.is_required() or field.default is None or field.default_factory is not None:
        return ""
    return f" (default {inline(field.default)})"


def _quoted(value: Any, most: int = 60) -> str:
    text = f"'{value}'" if isinstance(value, str) else inline(value)
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _a(meant: str) -> str:
    return f"a {meant}" if meant.split()[0] in ("whole", "number", "list", "mapping", "block") else meant


def _annotation_at(model: type[BaseModel], path: KeyPath) -> Any:
    """Annotation of the field at ``path`` below ``model``; ``None`` where there is none."""
    annotation: Any = model
    for key in path:
        annotation = _step(annotation, key)
    return annotation


def _step(annotation: Any, key: Key) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        field_info = _field_of(annotation, key)
        if field_info is None:
            return None
        metadata = field_info.metadata
        return Annotated[(field_info.annotation, *metadata)] if metadata else field_info.annotation
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is list and isinstance(key, int):
        return args[0]
    if origin is tuple and isinstance(key, int) and key < len(args):
        return args[key]
    if origin is dict:
        return args[1]
    members = args[:1] if origin is Annotated else args
    return next((step for member in members if (step := _step(member, key)) is not None), None)


def _field_of(model: type[BaseModel], key: Key) -> FieldInfo | None:
    return next((f for name, f in model.model_fields.items() if key in (name, f.alias)), None)


def _field_at(model: type[BaseModel], path: KeyPath) -> FieldInfo | None:
    """The field at ``path``; ``None`` for an item of a list or mapping."""
    owner = _annotation_at(model, path[:-1])
    return _field_of(owner, path[-1]) if path and isinstance(owner, type) and issubclass(owner, BaseModel) else None


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model class in an annotation such as ``Neck | None``."""
    candidates = (annotation, *get_args(annotation))
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)
