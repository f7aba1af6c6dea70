"""Read the expressions of a MONAI bundle that are data: values, negations, and calls that only state arguments."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from typing import Any

BUILDERS = re.compile(
    r"(monai\.networks\.nets\.)?(resnet\.)?resnet\d+"
    r"|(monai\.apps\.detection\.networks\.)?(retinanet_network\.)?resnet_fpn_feature_extractor"
)
"""Functions of MONAI whose calls are read as a ``_target_`` with arguments; they are not called."""

_LONGEST = 2000


def value_of(expression: str, follow: Callable[[str], Any]) -> Any:
    """Return the value of an expression that is data.

    Args:
        expression: ``$...``, in which ``@name`` refers to another item.
        follow: returns the value of an item by name.

    Raises:
        ValueError: it is code.

    >>> value_of("$not @raw", {"raw": False}.get)
    True
    >>> value_of("$monai.networks.nets.resnet.resnet50(spatial_dims=3)", {}.get)
    {'_target_': 'monai.networks.nets.resnet.resnet50', 'spatial_dims': 3}
    """
    return _value(_tree(expression), follow)


def call_of(expression: str, target: str, follow: Callable[[str], Any]) -> tuple[str, dict[str, Any]] | None:
    """Return the method and the named arguments of ``$@target.method(name=value)``; ``None`` for anything else.

    Raises:
        ValueError: an argument is code.
    """
    if not expression.startswith(f"$@{target}."):
        return None
    node = _tree(expression)
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or node.args:
        raise ValueError(expression)
    return node.func.attr, {str(one.arg): _value(one.value, follow) for one in node.keywords}


def _tree(expression: str) -> ast.expr:
    text = re.sub(r"@([\w:#]+)", lambda found: f"_at({found[1]!r})", expression.removeprefix("$").strip())
    if len(text) > _LONGEST:
        raise ValueError(text[:80])
    try:
        return ast.parse(text, mode="eval").body
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(text) from error


def _value(node: ast.expr, follow: Callable[[str], Any]) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(one, follow) for one in node.elts]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        found = _value(node.operand, follow)
        if isinstance(node.op, ast.Not) and isinstance(found, bool):
            return not found
        if isinstance(node.op, ast.USub) and isinstance(found, int | float):
            return -found
    if isinstance(node, ast.Call):
        name = ast.unparse(node.func)
        if name == "_at" and isinstance(node.args[0], ast.Constant):
            return follow(str(node.args[0].value))
        if BUILDERS.fullmatch(name) and all(one.arg for one in node.keywords):
            found = {str(one.arg): _value(one.value, follow) for one in node.keywords}
            placed = {"_args_": [_value(one, follow) for one in node.args]} if node.args else {}
            return {"_target_": name, **placed, **found}
    raise ValueError(ast.unparse(node))
