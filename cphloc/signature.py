"""A component's arguments, read from its constructor without importing it.

The file of ``module:Class`` is found from its top-level package and parsed. Annotations become types that pydantic
checks; they may be ``int``, ``float``, ``bool``, ``str``, ``None``, ``Literal``, lists, tuples and mappings of these, unions,
``nn.Module`` for a nested component, and the names of `cphloc.argument_types`.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import AfterValidator, AllowInfNan, Strict, ValidationInfo
from pydantic_core import PydanticCustomError

from cphloc import argument_types
from cphloc.errors import InputError

REQUIRED: Any = ...
WIRED = frozenset({"in_channels", "dims", "levels"})
"""Parameters that the build gives; no recipe states them."""

NESTED_KINDS = ("backbone", "neck", "head", "loss", "dataset")
_SEQUENCES = ("list", "Sequence", "Iterable", "Collection")
_MAPPINGS = ("dict", "Mapping")


@dataclass(frozen=True)
class Argument:
    """One argument of a component.

    Args:
        name: as a recipe writes it.
        annotation: a type that pydantic validates.
        default: plain data, or `REQUIRED`.
        component: the kind of a nested component, such as ``loss``; else ``None``.
        meaning: its line in the docstring.
    """

    name: str
    annotation: Any
    default: Any = REQUIRED
    component: str | None = None
    meaning: str = ""

    @property
    def required(self) -> bool:
        """Whether a recipe must state it."""
        return self.default is REQUIRED


@functools.cache
def arguments_of(target: str) -> tuple[Argument, ...]:
    """Arguments of the class that ``target`` names, without the wired ones.

    Args:
        target: ``module:Class``.

    Raises:
        InputError: there is no such file or class, or its signature cannot be read; the message says what to change.
    """
    module_name, class_name = target.split(":")
    module = _module(module_name)
    home, constructor = _constructor(module, class_name)
    meanings = _meanings(module.classes[class_name]) | _meanings(constructor)
    return tuple(_arguments(constructor.args, home, f"{target}", meanings, skip_self=True))


@functools.cache
def parse_signature(text: str) -> tuple[Argument, ...]:
    """Arguments written as in Python, for the allow-listed names that have no class of ours.

    >>> [a.name for a in parse_signature("lr: PositiveFloat = 1e-3, nesterov: bool = False")]
    ['lr', 'nesterov']
    """
    try:
        function = ast.parse(f"def signature({text}): ...").body[0]
    except SyntaxError as error:
        msg = f"signature '{text}': {error.msg}; write it as Python parameters"
        raise InputError(msg) from None
    return tuple(_arguments(function.args, _Module("signature", ast.Module([], [])), text, {}, skip_self=False))


def words(annotation: Any) -> str:
    """Say a type in words.

    >>> words(list[argument_types.PositiveInt] | None)
    'list of (whole number > 0) or null'
    """
    if annotation is None or annotation is type(None):
        return "null"
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        ranges = " and ".join(filter(None, map(_range_words, args[1:])))
        return f"{words(args[0])} {ranges}".strip()
    if origin is Literal:
        return " | ".join(map(str, args))
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(words, args)))
    if origin is list:
        return f"list of {_bracketed(words(args[0]))}"
    if origin is tuple:
        return f"list of {len(args)}: {', '.join(map(words, args))}"
    if origin is dict:
        return f"mapping of {words(args[0])} to {words(args[1])}"
    return _WORDS.get(annotation, getattr(annotation, "__name__", str(annotation)).lower())


_WORDS = {int: "whole number", float: "number", str: "text", bool: "true or false", list: "list", dict: "block"}


def _bracketed(text: str) -> str:
    return f"({text})" if " " in text and text != "whole number" else f"{text}s".replace("texts", "text")


def _range_words(bound: Any) -> str:
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    return " and ".join(f"{sign} {getattr(bound, key)}" for key, sign in signs.items() if hasattr(bound, key))


@dataclass
class _Module:
    """A parsed source file and the names that its top level defines or imports."""

    name: str
    tree: ast.Module
    classes: dict[str, ast.ClassDef] = field(default_factory=dict)
    values: dict[str, ast.expr] = field(default_factory=dict)
    imports: dict[str, tuple[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for statement in self.tree.body:
            match statement:
                case ast.ClassDef(name=name):
                    self.classes[name] = statement
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    self.values[name] = value
                case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                    self.values[name] = value
                case ast.ImportFrom(module=str(source), level=0, names=names):
                    self.imports |= {n.asname or n.name: (source, n.name) for n in names}

    def find(self, table: str, name: str) -> tuple[_Module, Any] | None:
        """The module and node that define ``name``, following ``from ... import``; ``None`` where it is unreadable."""
        if name in (found := getattr(self, table)):
            return self, found[name]
        if name not in self.imports:
            return None
        source, original = self.imports[name]
        try:
            return _module(source).find(table, original)
        except InputError:
            return None


@functools.cache
def _module(name: str) -> _Module:
    path = _source(name)
    try:
        return _Module(name, ast.parse(path.read_text(encoding="utf-8")))
    except (OSError, SyntaxError, ValueError) as error:
        msg = f"{path}: cannot be parsed: {error}; mend the file"
        raise InputError(msg) from None


def _source(module: str) -> Path:
    """The source file of ``module``; only its top-level package is looked up, and nothing is imported."""
    top, *below = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        spec = None
    if spec is not None and spec.submodule_search_locations:
        for folder in spec.submodule_search_locations:
            stem = Path(folder).joinpath(*below)
            for path in (stem.with_suffix(".py"), stem / "__init__.py"):
                if (below or path.name == "__init__.py") and path.is_file():
                    return path
    elif spec is not None and spec.origin and not below:
        return Path(spec.origin)
    msg = f"no module '{module}'; check 'import:' in the card, and that its package is installed"
    raise InputError(msg)


def _constructor(module: _Module, class_name: str) -> tuple[_Module, ast.FunctionDef]:
    """The ``__init__`` of a class, or of the first parent that has one."""
    if class_name not in module.classes:
        msg = f"module '{module.name}' has no class '{class_name}'; check 'import:' in the card"
        raise InputError(msg)
    definition = module.classes[class_name]
    for statement in definition.body:
        if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
            return module, statement
    for base in definition.bases:
        found = module.find("classes", base.id) if isinstance(base, ast.Name) else None
        if found is not None:
            return _constructor(found[0], found[1].name)
    nothing = ast.parse("def __init__(self): ...").body[0]
    return module, nothing


def _arguments(
    args: ast.arguments, home: _Module, owner: str, meanings: dict[str, str], skip_self: bool
) -> Iterator[Argument]:
    if args.vararg or args.kwarg:
        msg = f"{owner}: *args and **kwargs hide the arguments; name each one"
        raise InputError(msg)
    positional = [*args.posonlyargs, *args.args]
    defaults = [None] * (len(positional) - len(args.defaults)) + [*args.defaults]
    pairs = [*zip(positional, defaults, strict=True), *zip(args.kwonlyargs, args.kw_defaults, strict=True)]
    for parameter, default in pairs[int(skip_self) :]:
        name = parameter.arg
        if name in WIRED:
            continue
        if parameter.annotation is None:
            msg = f"{owner}: argument '{name}' has no type; annotate it"
            raise InputError(msg)
        where = f"{owner}: argument '{name}'"
        annotation = _type(parameter.annotation, home, where)
        value = REQUIRED if default is None else _plain(_literal(default, home, where))
        yield Argument(name, annotation, value, _nested_kind(parameter, where), meanings.get(name, ""))


def _type(node: ast.expr, home: _Module, where: str) -> Any:
    """Translate an annotation; only what a YAML file can hold has a translation."""

    def inner(child: ast.expr) -> Any:
        return _type(child, home, where)

    match node:
        case ast.Constant(value=None):
            return None
        case ast.Constant(value=str(quoted)):
            return inner(ast.parse(quoted, mode="eval").body)
        case ast.BinOp(op=ast.BitOr(), left=left, right=right):
            return Union[inner(left), inner(right)]
        case ast.Subscript(value=(ast.Name(id=name) | ast.Attribute(attr=name)), slice=parts):
            elements = parts.elts if isinstance(parts, ast.Tuple) else [parts]
            translated = _generic(name, elements, inner)
            if translated is not None:
                return translated
        case ast.Name(id=name) | ast.Attribute(attr=name):
            if name in _PLAIN:
                return _PLAIN[name]
            if (found := home.find("values", name)) is not None:
                return _type(found[1], found[0], where)
    msg = f"{where} has the type '{ast.unparse(node)}', which a recipe cannot hold; see cphloc.argument_types"
    raise InputError(msg)


def _generic(name: str, elements: list[ast.expr], inner: Any) -> Any:
    if name == "Literal":
        return Literal[tuple(ast.literal_eval(e) for e in elements)]
    if name == "Optional":
        return Union[inner(elements[0]), None]
    if name == "Union":
        return Union[tuple(inner(e) for e in elements)]
    if name == "Annotated":
        bounds = [getattr(annotated_types, b.func.id)(*map(ast.literal_eval, b.args)) for b in elements[1:]]
        return Annotated[(inner(elements[0]), *bounds)]
    if name == "PerAxis":
        return Annotated[inner(elements[0]) | list[inner(elements[0])], AfterValidator(_one_per_axis)]
    if name in _SEQUENCES:
        return list[inner(elements[0])]
    if name == "tuple":
        variadic = isinstance(elements[-1], ast.Constant) and elements[-1].value is ...
        if variadic:
            return list[inner(elements[0])]
        return Annotated[tuple[tuple(inner(e) for e in elements)], Strict(False)]
    if name in _MAPPINGS:
        return dict[inner(elements[0]), inner(elements[1])]
    return None


def _finite(annotation: Any) -> Any:
    return Annotated[annotation, AllowInfNan(False)]


_PLAIN: dict[str, Any] = {
    "int": int,
    "float": _finite(float),
    "bool": bool,
    "str": str,
    "Path": str,
    "Module": dict[str, Any],
    **{name: getattr(argument_types, name) for name in ("PositiveInt", "NonNegativeInt")},
    **{name: _finite(getattr(argument_types, name)) for name in ("PositiveFloat", "NonNegativeFloat", "UnitInterval")},
}


def _one_per_axis(value: Any, info: ValidationInfo) -> Any:
    """Refuse a list whose length is not the recipe's ``dims``."""
    dims = (info.context or {}).get("dims")
    if isinstance(value, list) and dims is not None and len(value) != dims:
        raise PydanticCustomError("per_axis", "one per axis", {"dims": dims, "length": len(value)})
    return value


def _literal(node: ast.expr, home: _Module, where: str) -> Any:
    """The value of a default: a literal, or a constant of the module."""
    if isinstance(node, ast.Name) and (found := home.find("values", node.id)) is not None:
        return _literal(found[1], found[0], where)
    try:
        return ast.literal_eval(node)
    except ValueError:
        msg = f"{where} has the default '{ast.unparse(node)}'; a default must be a literal or a constant of the module"
        raise InputError(msg) from None


def _plain(value: Any) -> Any:
    """Tuples as the lists that YAML has."""
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, tuple | list) else value


def _nested_kind(parameter: ast.arg, where: str) -> str | None:
    """The kind that an ``nn.Module`` parameter takes, from the last word of its name: ``box_loss`` takes a loss."""
    names = {n.attr if isinstance(n, ast.Attribute) else getattr(n, "id", "") for n in ast.walk(parameter.annotation)}
    if "Module" not in names:
        return None
    last = parameter.arg.rsplit("_", 1)[-1]
    kind = next((k for k in NESTED_KINDS if last in (k, f"{k}s", f"{k}es")), None)
    if kind is None:
        msg = f"{where} takes a module, but its name does not say which kind; end it with one of {NESTED_KINDS}"
        raise InputError(msg)
    return kind


def _meanings(node: ast.ClassDef | ast.FunctionDef) -> dict[str, str]:
    """The ``Args:`` section of a docstring by name."""
    text = ast.get_docstring(node) or ""
    meanings: dict[str, str] = {}
    inside, name = False, ""
    for line in text.splitlines():
        if not line.startswith(" ") and line.strip():
            inside = line.strip() == "Args:"
        elif inside and line.startswith("    ") and line[4:5].strip() and ":" in line:
            name, meaning = line.strip().split(":", 1)
            meanings[name] = meaning.strip()
        elif inside and line.strip() and name:
            meanings[name] += f" {line.strip()}"
    return meanings
