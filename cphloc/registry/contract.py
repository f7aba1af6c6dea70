"""Construct components from their cards: import the class, check the contract of its kind, call its constructor.

All components are made by `construct`, so that a plug-in that breaks its contract gives a one-line message with the
card, the class and what to change. ``cphloc show KIND`` prints the contract.
"""

from __future__ import annotations

import importlib
import inspect
import numbers
from collections.abc import Mapping
from typing import Any

from cphloc.errors import CphlocError, InputError
from cphloc.registry import catalogue
from cphloc.registry.card import Card
from cphloc.registry.kinds import ALL
from cphloc.registry.plugins import plugin_of
from cphloc.structures.levels import Level


class ContractError(InputError):
    """A class does not fulfil the contract of its kind."""

    def __init__(self, card: Card, what: str, fix: str) -> None:
        plugin = plugin_of(card.source)
        owner = f" of plug-in '{plugin.name}'" if plugin is not None else ""
        made_by = f" ({card.import_})" if card.import_ else ""
        super().__init__(f"the {card.kind} '{card.name}'{owner}{made_by} {what}; {fix}: see cphloc show {card.kind}")


def construct(kind: str, name: str, arguments: Mapping[str, Any], **wired: Any) -> Any:
    """Construct a component from its card.

    Args:
        kind: such as ``neck``.
        name: of the card.
        arguments: constructor arguments from the recipe.
        wired: constructor arguments from cphloc; those that the constructor does not take are left out.

    Raises:
        NotFoundError: no card has that name.
        ContractError: the class breaks the contract of its kind, or raises something of its own.
        InputError: the class refuses its arguments.
    """
    card = catalogue.card(kind, name)
    made_by = checked_class(kind, name)
    parameters = _parameters(card, made_by)
    given = {**arguments, **{key: value for key, value in wired.items() if key in parameters}}
    made = call(card, made_by, **given)
    for member in ALL[kind].members:
        if not any(_has(made, one) for one in member.split(" or ")):
            raise ContractError(card, f"has no {member}", "add it")
    if "levels" in ALL[kind].members:
        _check_levels(card, made.levels)
    return made


def checked_class(kind: str, name: str) -> type:
    """Import the class of a card, and check its base class and constructor.

    Raises:
        NotFoundError: no card has that name.
        ContractError: the class has the wrong base, or its constructor lacks a required argument.
    """
    card, made_by, contract = catalogue.card(kind, name), catalogue.resolve(kind, name), ALL[kind]
    if not isinstance(made_by, type):
        raise ContractError(card, "is not a class", "name a class in 'import:'")
    if contract.base:
        module, base = contract.base.split(":")
        if not issubclass(made_by, getattr(importlib.import_module(module), base)):
            raise ContractError(card, f"is not a {module}.{base}", f"inherit from {module}.{base}")
    lacking = [
        argument for argument in (*contract.wired, *contract.arguments) if argument not in _parameters(card, made_by)
    ]
    if lacking:
        raise ContractError(card, f"takes no argument '{lacking[0]}'", "add it to the constructor")
    return made_by


def call(card: Card, function: Any, *arguments: Any, **named: Any) -> Any:
    """Call a function of a component; exceptions of a plug-in become a `ContractError`, cphloc's own errors apart.

    Exceptions of cphloc's own components pass unchanged, since they are bugs of cphloc.
    """
    if (card.import_ or "").startswith("cphloc."):
        return function(*arguments, **named)
    try:
        return function(*arguments, **named)
    except CphlocError:
        raise
    except Exception as error:
        what = f"raised {type(error).__name__}: {' '.join(str(error).split())}"
        raise ContractError(card, what, "mend it, or run with --debug to see where") from error


def call_for_number(card: Card, function: Any, *arguments: Any) -> float:
    """Call a function of a component that must return a number; see `call`.

    Raises:
        ContractError: it returns something else.
    """
    value = call(card, function, *arguments)
    if not isinstance(value, numbers.Real):
        raise ContractError(card, f"gave {value!r:.80} in place of a number", "return a float")
    return float(value)


def _check_levels(card: Card, levels: Any) -> None:
    """Check that the levels of a backbone or neck are a tuple of `cphloc.structures.levels.Level`."""
    if not (isinstance(levels, tuple | list) and levels and all(isinstance(level, Level) for level in levels)):
        what = f"publishes levels = {levels!r:.80}"
        raise ContractError(card, what, "give a tuple of cphloc.structures.levels.Level(channels, stride)")


def _parameters(card: Card, made_by: type) -> Mapping[str, inspect.Parameter]:
    """Parameters of a constructor by name."""
    try:
        return inspect.signature(made_by).parameters
    except (TypeError, ValueError) as error:
        raise ContractError(card, "has no readable constructor", "write __init__ in Python") from error


def _has(made: Any, member: str) -> bool:
    """Whether an object has a member; the placeholder for ``forward`` in ``torch.nn.Module`` does not count."""
    found = getattr(made, member, None)
    return found is not None and getattr(found, "__name__", "") != "_forward_unimplemented"
