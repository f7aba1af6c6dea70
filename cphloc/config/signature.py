"""Read the constructor arguments of a component from its source file, without importing it.

The source file of ``module:Class`` is located from its top-level package and parsed; `cphloc.config.argument_schema`
translates the annotations.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cphloc.config.argument_schema import annotation_type
from cphloc.errors import InputError

REQUIRED: Any = ...
WIRED = frozenset({"in_channels", "dims", "levels", "params"})
"""Parameters that cphloc passes when it builds a model; recipes do not state them."""

NESTED_KINDS = {"Module": "loss", "Suppression": "suppression"}
"""Kinds of nested components, by the type that annotates the argument."""


@dataclass(frozen=True)
class Argument:
    """One argument of a component.

    Args:
        name: as a recipe writes it.
        annotation: a type that pydantic validates.
        default: plain data, or `REQUIRED`.
        component: the kind of a nested component, such as ``loss``; else ``None``.
        meaning: its description in the docstring.
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
    """Read the arguments of a class, without the `WIRED` ones.

    Args:
        target: ``module:Class``.

    Raises:
        InputError: there is no such file or class, or its signature cannot be read; the message says what to change.
    """
    module_name, class_name = target.split(":")
    module = _module(module_name)
    home, constructor = _constructor(module, class_name)
    meanings = _meanings(module.classes[class_name]) | _meanings(constructor)
    return tuple(_arguments(constructor.args, home, target, meanings, skip_self=True))


@functools.cache
def parse_signature(text: str) -> tuple[Argument, ...]:
    """Parse arguments written as Python parameters, as on cards of components without a class.

    >>> [a.name for a in parse_signature("lr: PositiveFloat = 1e-3, nesterov: bool = False")]
    ['lr', 'nesterov']
    """
    try:
        function = _function(text)
    except SyntaxError as error:
        msg = f"signature '{text}': {error.msg}; write it as Python parameters"
        raise InputError(msg) from None
    return tuple(_arguments(function.args, _Module("signature", ast.Module([], [])), text, {}, skip_self=False))


@dataclass
class _Module:
    """A parsed source file with the classes, values and imports of its top level."""

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
        """Find the module and node that define ``name``, following ``from ... import``, or return ``None``."""
        if name in (found := getattr(self, table)):
            return self, found[name]
        if name not in self.imports:
            return None
        source, original = self.imports[name]
        try:
            return _module(source).find(table, original)
        except InputError:
            return None

    def value_of(self, name: str) -> ast.expr | None:
        """Expression that is assigned to ``name`` in this module, or in the one from which it is imported."""
        found = self.find("values", name)
        return found[1] if found is not None else None


@functools.cache
def _module(name: str) -> _Module:
    path = _source(name)
    try:
        return _Module(name, ast.parse(path.read_text(encoding="utf-8")))
    except (OSError, SyntaxError, ValueError) as error:
        msg = f"{path}: cannot be parsed: {error}; mend the file"
        raise InputError(msg) from None


def _source(module: str) -> Path:
    """Locate the source file of ``module`` from its top-level package, without importing anything."""
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
    if any("dataclass" in ast.unparse(decorator) for decorator in definition.decorator_list):
        return module, _dataclass_constructor(definition)
    for base in definition.bases:
        found = module.find("classes", base.id) if isinstance(base, ast.Name) else None
        if found is not None:
            return _constructor(found[0], found[1].name)
    return module, _function("self")


def _dataclass_constructor(definition: ast.ClassDef) -> ast.FunctionDef:
    """The constructor that ``@dataclass`` would write."""
    fields = [
        ast.unparse(statement)
        for statement in definition.body
        if isinstance(statement, ast.AnnAssign) and "ClassVar" not in ast.unparse(statement.annotation)
    ]
    return _function(", ".join(["self", *fields]))


def _function(parameters: str) -> ast.FunctionDef:
    """Parse parameters as those of a constructor."""
    function = ast.parse(f"def __init__({parameters}): ...").body[0]
    assert isinstance(function, ast.FunctionDef)
    return function


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
        try:
            annotation = annotation_type(parameter.annotation, home.value_of)
        except InputError as error:
            msg = f"{where} has {error}"
            raise InputError(msg) from None
        value = REQUIRED if default is None else _plain(_literal(default, home, where))
        yield Argument(name, annotation, value, _nested_kind(parameter, where), meanings.get(name, ""))


def _literal(node: ast.expr, home: _Module, where: str) -> Any:
    """Evaluate a default: a literal, a constant of the module, or a component called with literals.

    ``NMS(iou=0.6)``, where ``NMS`` comes from ``cphloc.components.suppression.nms``, is ``{type: nms, iou: 0.6}``: the
    file of a component has its name.
    """
    if isinstance(node, ast.Name) and (value := home.value_of(node.id)) is not None:
        return _literal(value, home, where)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in home.imports:
        stated = {k.arg: _literal(k.value, home, where) for k in node.keywords if k.arg and not node.args}
        return {"type": home.imports[node.func.id][0].rsplit(".", 1)[-1], **stated}
    try:
        return ast.literal_eval(node)
    except ValueError:
        msg = f"{where} has the default '{ast.unparse(node)}'; a default must be a literal or a constant of the module"
        raise InputError(msg) from None


def _plain(value: Any) -> Any:
    """Replace tuples by lists, which YAML has."""
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, tuple | list) else value


def _nested_kind(parameter: ast.arg, where: str) -> str | None:
    """Kind of component that a parameter takes, which must be the last word of its name: ``box_loss`` takes a loss."""
    nodes = ast.walk(parameter.annotation) if parameter.annotation is not None else ()
    names = {n.attr if isinstance(n, ast.Attribute) else getattr(n, "id", "") for n in nodes}
    kind = next((kind for name, kind in NESTED_KINDS.items() if name in names), None)
    if kind is not None and parameter.arg.rsplit("_", 1)[-1] != kind:
        msg = f"{where} takes a component, but its name does not say which kind; end it with '{kind}'"
        raise InputError(msg)
    return kind


def _meanings(node: ast.ClassDef | ast.FunctionDef) -> dict[str, str]:
    """Parse the ``Args:`` section of a docstring into descriptions by argument."""
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
