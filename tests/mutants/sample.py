"""Choose the mutants: one change of cosmic-ray at every ``EVERY``-th place of a module that can be changed."""

from __future__ import annotations

import ast
import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

ROOT = Path(__file__).parent.parent.parent
PACKAGES = ("evaluation", "metrics", "structures", "data/io", "data/augment", "inference", "publishing")
SEED = 15
EVERY = 14
LEFT_OUT = ("_Eq_Is", "_NotEq_IsNot", "_Is_Eq", "_IsNot_NotEq", "VariableReplacer", "VariableInserter")
PARAMETERS = {"parameters", "param", "typedargslist", "lambdef"}

Position = tuple[int, int]


@dataclass(frozen=True)
class Mutant:
    """One changed module.

    Args:
        module: Path of the module below the repository.
        operator: Name of the operator of cosmic-ray.
        occurrence: Which of the places in the module that this operator can change.
        line: Line of the change, from 1.
    """

    module: str
    operator: str
    occurrence: int
    line: int

    @property
    def source(self) -> str:
        """Source of the changed module."""
        operator = get_operator(self.operator)()
        return mutate_code((ROOT / self.module).read_text(), operator, self.occurrence) or ""

    @property
    def change(self) -> str:
        """The changed line as it was and as it is, for example ``a < b  ->  a <= b``."""
        before, after = (ROOT / self.module).read_text().splitlines(), self.source.splitlines()
        if len(before) != len(after):
            return f"{before[self.line - 1].strip()}  ->  (removed)"
        number = next(i for i, (old, new) in enumerate(zip(before, after, strict=True)) if old != new)
        return f"{before[number].strip()}  ->  {' '.join(after[number].split())}"


def sample(module: str) -> Iterator[Mutant]:
    """Yield the mutants of a module, always the same ones while its source stays the same."""
    places = list(_places((ROOT / module).read_text()).items())
    first = random.Random(f"{SEED} {module}").randrange(EVERY)
    for number in range(min(first, max(0, len(places) - 1)), len(places), EVERY):
        (line, _), changes = places[number]
        random.Random(f"{SEED} {module} {number}").shuffle(changes)
        mutants = (Mutant(module, operator, occurrence, line) for operator, occurrence in changes)
        yield from islice((mutant for mutant in mutants if _compiles(mutant.source)), 1)


def _places(source: str) -> dict[Position, list[tuple[str, int]]]:
    """Map each place of a module that can be changed to the operators that can change it, in order of the source."""
    nodes, ignored = list(ast_nodes(get_ast(source))), list(_ignored(source))
    places = defaultdict(list)
    for name in operator_names():
        if name.endswith(LEFT_OUT):
            continue
        operator, occurrence = get_operator(name)(), 0
        for node in nodes:
            for start, _ in operator.mutation_positions(node):
                if not any(low <= start < high for low, high in ignored) and node.parent.type not in PARAMETERS:
                    places[start].append((name, occurrence))
                occurrence += 1
    return dict(sorted(places.items()))


def _ignored(source: str) -> Iterator[tuple[Position, Position]]:
    """Yield the start and end of what decides no result: annotations, messages, logging, type-only imports."""
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        for part in _parts_ignored(node):
            ends = ((part.lineno, part.col_offset), (part.end_lineno, part.end_col_offset))
            low, high = ((line, len(lines[line - 1].encode()[:column].decode())) for line, column in ends)
            yield low, high


def _parts_ignored(node: ast.AST) -> Iterator[ast.expr | ast.stmt]:
    match node:
        case ast.FunctionDef(returns=ast.expr() as part) | ast.arg(annotation=ast.expr() as part):
            yield part
        case ast.AnnAssign():
            yield node.annotation
        case ast.Raise(exc=ast.expr() as part):
            yield part
        case ast.Assign(targets=[ast.Name(id="msg" | "message" | "__all__")]):
            yield node
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            yield node
        case ast.Call(func=ast.Attribute(value=ast.Name(id="_log" | "logging" | "warnings"))):
            yield node


def _compiles(source: str) -> bool:
    try:
        compile(source, "mutant", "exec")
    except (SyntaxError, ValueError):
        return False
    return True
