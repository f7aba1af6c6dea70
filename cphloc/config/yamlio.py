"""Read YAML 1.2 with the source position of every key and value, and write it.

Scalars follow the core schema of YAML 1.2 (yaml.org/spec/1.2.2, section 10.3): ``3e-4`` is a float, ``no`` and ``on``
are text, ``0o17`` is 15. Rejected, with their position: duplicate keys, merge keys, tags, a second document, keys
that are neither text nor whole numbers, and files that exceed the limits on size, depth and number of values.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from cphloc.config.nodes import MAX_DEPTH, Key, KeyPath, Limits, Node, Position, Scalar, dotted
from cphloc.errors import NotFoundError, Problem, RecipeError

MAX_PROBLEMS = 50
RECIPE_LIMITS = Limits(1_000_000, 50_000)

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_WORDS: dict[str, Scalar] = dict.fromkeys(("", "~", "null", "Null", "NULL"))
_WORDS |= {word: word[0] in "tT" for word in ("true", "True", "TRUE", "false", "False", "FALSE")}
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)


def load(path: str | Path, limits: Limits = RECIPE_LIMITS) -> Node:
    """Read a YAML file of a size within ``limits``.

    Raises:
        NotFoundError: there is no such file.
        RecipeError: with every problem found in it.
    """
    path = Path(path)
    try:
        if not path.is_file():
            msg = f"{path}: no such file; check the path"
            raise NotFoundError(msg)
        with path.open("rb") as file:
            return read(file.read(limits.bytes + 1), str(path), limits)
    except (OSError, ValueError) as error:
        if isinstance(error, NotFoundError | RecipeError):
            raise
        raise RecipeError([Problem(str(path), "(top)", f"cannot be read: {error}", "check the file")]) from None


def read(text: str | bytes, source: str, limits: Limits = RECIPE_LIMITS) -> Node:
    """Read one YAML document of a size within ``limits``; ``source`` names it in reports.

    >>> node = read("lr: 3e-4", "recipe.yaml").get(("lr",))
    >>> node.value, str(node.where)
    (0.0003, 'recipe.yaml:1:5')

    Raises:
        RecipeError: with every problem found.
    """
    reader = _Reader(source, limits)
    decoded = _decoded(text, source, limits)
    try:
        root = reader.read(decoded)
    except yaml.MarkedYAMLError as error:
        raise RecipeError([*reader.problems, _syntax_problem(error, source, decoded, reader.path)]) from None
    except yaml.YAMLError as error:
        detail = str(error).splitlines()[0]
        raise RecipeError(
            [Problem(source, "(top)", f"not YAML text: {detail}", "remove it and save as UTF-8")]
        ) from None
    if reader.problems:
        raise RecipeError(reader.problems)
    return root


def dump(value: Any) -> str:
    """Write plain data as YAML that YAML 1.1 and 1.2 read alike, lists of scalars on one line.

    >>> print(dump({"lr": 3e-4, "name": "no", "widths": [8, 16]}), end="")
    lr: 0.0003
    name: 'no'
    widths: [8, 16]
    """
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def inline(value: Any) -> str:
    """Write plain data as YAML on one line.

    >>> inline({"type": "poly", "power": [0.9]})
    '{type: poly, power: [0.9]}'
    >>> inline([[[8.0, 7.5]], [{"type": "fpn"}]])
    '[[[8.0, 7.5]], [{type: fpn}]]'
    """
    text = yaml.dump(
        value, Dumper=_LineDumper, sort_keys=False, allow_unicode=True, width=10**9, default_flow_style=True
    )
    return text.removesuffix("\n").removesuffix("\n...")


def _decoded(text: str | bytes, source: str, limits: Limits) -> str:
    if len(text) > limits.bytes:
        raise RecipeError([Problem(source, "(top)", f"more than {limits.bytes:,} bytes", "shorten the file")])
    try:
        decoded = text.decode("utf-8-sig") if isinstance(text, bytes) else text
        decoded.encode()
    except UnicodeError:
        raise RecipeError([Problem(source, "(top)", "not UTF-8 text", "save the file as UTF-8")]) from None
    return decoded


def _syntax_problem(error: yaml.MarkedYAMLError, source: str, text: str, path: KeyPath) -> Problem:
    mark = error.problem_mark or error.context_mark
    where = Position(source, mark.line + 1, mark.column + 1) if mark else Position(source)
    character = text[mark.index : mark.index + 1] if mark else ""
    what = error.problem or error.context or "cannot be read"
    fix = "check indentation, colons, quotes and brackets here and in the line above"
    if character == "\t":
        what, fix = "a tab", "indent with spaces"
    elif "cannot start any token" in what and character:
        what, fix = f"a value that starts with '{character}'", "put it in quotes"
    return Problem(str(where), dotted(path), what, fix)


@dataclass(slots=True)
class _Open:
    """A list or mapping whose end has not been read yet."""

    node: Node
    anchor: str | None
    key: Key | None = None
    key_where: Position | None = None
    size: int = 1


@dataclass
class _Reader:
    """Builds nodes from parser events; an explicit stack replaces recursion, so deep files raise no RecursionError."""

    source: str
    limits: Limits
    problems: list[Problem] = field(default_factory=list)
    stack: list[_Open] = field(default_factory=list)
    anchors: dict[str, tuple[Node, int]] = field(default_factory=dict)
    root: Node | None = None
    nodes: int = 0

    @property
    def path(self) -> KeyPath:
        """Path of the value being read."""
        keys = (len(o.node.value) if isinstance(o.node.value, list) else o.key for o in self.stack)
        return tuple(key for key in keys if key is not None)

    def read(self, text: str) -> Node:
        """Parse ``text`` and return its root node."""
        documents = 0
        for event in yaml.parse(text, Loader=_Loader):
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._fail(event, "a second document", "put each recipe in a file of its own")
            elif isinstance(event, yaml.NodeEvent):
                self._node(event)
            elif isinstance(event, yaml.CollectionEndEvent):
                closed = self.stack.pop()
                self._place(closed.node, closed.size, closed.anchor)
        return self.root or Node(None, Position(self.source, 1, 1), Position(self.source, 1, 1))

    def _node(self, event: yaml.NodeEvent) -> None:
        where = self._position(event)
        if (tag := getattr(event, "tag", None)) is not None:
            self._report(where, f"the tag '{tag}'", "write the value without a tag; quotes make text")
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self.anchors:
                self._fail(event, f"the alias '*{event.anchor}' names nothing above it", "write the value out")
            node, size = self.anchors[event.anchor]
            self._place(Node(node.value, node.where, where), size, None)
        elif isinstance(event, yaml.ScalarEvent):
            plain = event.style is None or event.style == ""
            value = self._scalar(event.value, where) if plain else event.value
            self._place(Node(value, where, where), 1, event.anchor, merge_key=plain and value == "<<")
        else:
            if len(self.stack) >= MAX_DEPTH:
                self._fail(event, f"nested deeper than {MAX_DEPTH} levels", "flatten it")
            empty: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
            self.stack.append(_Open(Node(empty, where, where), event.anchor))

    def _place(self, node: Node, size: int, anchor: str | None, merge_key: bool = False) -> None:
        """Add a finished node to its parent, as list item, key or value; without a parent it is the root."""
        self.nodes += 1
        if anchor is not None:
            self.anchors[anchor] = (node, size)
        if not self.stack:
            self.root = node
            return
        parent, siblings = self.stack[-1], self.stack[-1].node.value
        parent.size += size
        if max(parent.size, self.nodes) > self.limits.values:
            problem = Problem(
                str(node.where), dotted(self.path), f"more than {self.limits.values:,} values", "shorten the file"
            )
            raise RecipeError([*self.problems, problem])
        if isinstance(siblings, list):
            siblings.append(node)
        elif isinstance(siblings, dict) and parent.key_where is None:
            parent.key, parent.key_where = self._key(node, siblings, merge_key), node.key_where
        elif isinstance(siblings, dict) and parent.key_where is not None:
            node.key_where = parent.key_where
            if parent.key is not None:
                siblings[parent.key] = node
            parent.key = parent.key_where = None

    def _key(self, node: Node, siblings: dict[Key, Node], merge_key: bool) -> Key | None:
        """Return the key that ``node`` holds; ``None``, with a problem reported, where it is not valid."""
        key, where = node.value, node.key_where
        if merge_key:
            self._report(where, "the merge key '<<'", "use 'extends: other.yaml' at the top of the recipe")
            return None
        if isinstance(key, bool) or not isinstance(key, str | int):
            fix = "quote it" if isinstance(key, bool | float) or key is None else "use text or a whole number"
            self._report(where, "a key that is neither text nor a whole number", fix)
            return None
        twin = next((k for k in (key, str(key), _whole(key)) if k in siblings), None)
        if twin is not None:
            first = siblings[twin].key_where.line
            self._report(where, f"duplicate key '{key}', given first in line {first}", "keep one", below=(key,))
            return None
        return key

    def _scalar(self, text: str, where: Position) -> Scalar:
        if text in _WORDS:
            return _WORDS[text]
        if _INT.fullmatch(text):
            if len(text) > 300:
                self._report(where, f"a number of {len(text):,} digits", "shorten it")
                return 0
            return int(text, 0 if text[:2] in ("0o", "0x") else 10)
        if _FLOAT.fullmatch(text):
            return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        return text

    def _position(self, event: yaml.Event) -> Position:
        return Position(self.source, event.start_mark.line + 1, event.start_mark.column + 1)

    def _report(self, where: Position, what: str, fix: str, below: KeyPath = ()) -> None:
        self.problems.append(Problem(str(where), dotted((*self.path, *below)), what, fix))
        if len(self.problems) == MAX_PROBLEMS:
            raise RecipeError(self.problems)

    def _fail(self, event: yaml.Event, what: str, fix: str) -> None:
        self._report(self._position(event), what, fix)
        raise RecipeError(self.problems)


def _whole(key: Key) -> Key:
    return int(key) if isinstance(key, str) and key.isdecimal() and len(key) < 300 else key


class _Dumper(yaml.SafeDumper):
    """Writes block mappings, lists of scalars on one line, and quotes where YAML 1.1 or 1.2 would read another type."""

    def ignore_aliases(self, data: Any) -> bool:
        """Return True: equal values are written out, never as aliases."""
        return True

    def represent_sequence(self, tag: str, sequence: Any, flow_style: bool | None = None) -> yaml.Node:
        """Write a list of scalars, or of rows of scalars, on one line."""
        short = all(isinstance(v, str | int | float | bool | None) for row in sequence for v in _row(row))
        return super().represent_sequence(tag, sequence, flow_style=short)


class _LineDumper(_Dumper):
    """Writes everything on one line."""

    def represent_sequence(self, tag: str, sequence: Any, flow_style: bool | None = None) -> yaml.Node:
        """Write a list on one line, whatever its items are."""
        return yaml.SafeDumper.represent_sequence(self, tag, sequence, flow_style=True)


def _row(item: Any) -> list[Any]:
    return list(item) if isinstance(item, list | tuple) else [item]


def _represent_str(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=None if value.isprintable() else '"')


def _represent_float(dumper: yaml.SafeDumper, value: float) -> yaml.Node:
    text = {"inf": ".inf", "-inf": "-.inf", "nan": ".nan"}.get(repr(value), repr(value))
    if "e" in text and "." not in text:
        text = text.replace("e", ".0e")
    return dumper.represent_scalar("tag:yaml.org,2002:float", text)


_Dumper.add_representer(str, _represent_str)
_Dumper.add_representer(float, _represent_float)
_Dumper.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(rf"^(?:{_INT.pattern})$"), list("-+0123456789"))
_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(rf"^(?:{_FLOAT.pattern})$"), list("-+.0123456789"))
