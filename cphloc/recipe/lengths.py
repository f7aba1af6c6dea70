"""Adapt inherited training settings to another number of steps.

A recipe that extends another, or whose ``train.steps`` is overridden, inherits values that were chosen for the length
of the other training. Those that cannot work for the new length are replaced; the origin of the value says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from cphloc.config.nodes import Node, Position

INITIAL_SHARE = 0.01
"""Largest share of the initial weights that a moving average may keep at the end of the training."""

LEAST_MOVEMENT = 0.01
"""Least product of learning rate and steps of an optimizer of the Adam family, which moves weights by about the rate
at each step; with less, a new head stays at its random weights."""

_ADAM = ("Adam", "AdamW", "NAdam", "RAdam", "Adamax")
_HIGHEST_RATE = 1e-3


def adapt_to_length(root: Node) -> None:
    """Replace, in place, inherited values of ``train`` that cannot work for the number of steps.

    Values that are stated together with the number of steps, or by ``--set``, are kept.

    Args:
        root: a merged recipe, with the position of every value.
    """
    steps = root.get(("train", "steps"))
    if steps is None or not isinstance(steps.value, int) or steps.value < 1:
        return
    for path, adapted in _RULES.items():
        node = root.get(path)
        if node is None or not _is_inherited(node, steps, root):
            continue
        value = adapted(node.value, steps.value, root) if isinstance(node.value, int | float) else None
        if value is not None:
            node.where = Position(f"adapted to train.steps = {steps.value} from {node.value} ({node.where})")
            node.value = value


def _is_inherited(node: Node, steps: Node, root: Node) -> bool:
    """Whether a value comes from a recipe farther away than the number of steps."""
    source, newer = node.where.source, steps.where.source
    if source == newer or source.startswith("--set"):
        return False
    return newer.startswith("--set") or source != root.where.source


def _ema(decay: float, steps: int, root: Node) -> float | None:
    """Decay that keeps at most `INITIAL_SHARE` of the initial weights.

    >>> _ema(0.995, 60, Node({}, Position(""), Position(""))), _ema(0.995, 6000, Node({}, Position(""), Position("")))
    (0.926, None)
    """
    highest = INITIAL_SHARE ** (1 / steps)
    return math.floor(1000 * highest) / 1000 if decay > highest else None


def _warmup(warmup: float, steps: int, root: Node) -> int | None:
    return steps // 10 if warmup > steps / 2 else None


def _rate(lr: float, steps: int, root: Node) -> float | None:
    kind = root.get(("train", "optimizer", "type"))
    if kind is None or kind.value not in _ADAM or lr <= 0 or lr * steps >= LEAST_MOVEMENT:
        return None
    least = min(_HIGHEST_RATE, float(f"{LEAST_MOVEMENT / steps:.1e}"))
    return least if least > lr else None


_RULES: dict[tuple[str, ...], Callable[[float, int, Node], Any]] = {
    ("train", "ema"): _ema,
    ("train", "warmup_steps"): _warmup,
    ("train", "optimizer", "lr"): _rate,
}
"""Path of a value -> function of the value, the steps and the recipe that returns the new value, or ``None``."""
