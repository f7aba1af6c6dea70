"""Create the object of a recipe block, such as a transform or an intensity scheme, from its registry card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from cphloc.config.argument_schema import words
from cphloc.errors import InputError, did_you_mean
from cphloc.registry import catalogue
from cphloc.registry.card import Card
from cphloc.registry.contract import construct


def make(kind: str, name: str, arguments: Mapping[str, Any]) -> Any:
    """Import the class of a card and create an instance.

    Args:
        kind: kind of the card, such as ``transform``.
        name: name of the card, which must have ``import:``.
        arguments: constructor arguments; lists, as parsed from YAML, are converted to tuples.

    Raises:
        NotFoundError: there is no such card.
        MissingExtraError: the card names an extra that is not installed.
        InputError: an argument that is unknown, missing, of another type or out of range.
    """
    check_arguments(catalogue.card(kind, name), arguments)
    return construct(kind, name, {key: _hashable(value) for key, value in arguments.items()})


def check_arguments(card: Card, arguments: Mapping[str, Any]) -> None:
    """Validate arguments against the signature of a card.

    Raises:
        InputError: an argument that is unknown, missing, of another type or out of range; the message names the first.
    """
    owner = f"{card.kind} {card.name}"
    known = {argument.name: argument for argument in catalogue.arguments(card)}
    for key in arguments:
        if key not in known:
            hint = did_you_mean(key, known) or f"it takes {', '.join(sorted(known)) or 'none'}"
            msg = f"{owner} has no argument '{key}'; {hint}"
            raise InputError(msg)
    for key, argument in known.items():
        if key not in arguments:
            if argument.required:
                msg = f"{owner} needs the argument '{key}', {words(argument.annotation)}; add it"
                raise InputError(msg)
            continue
        try:
            TypeAdapter(argument.annotation, config=ConfigDict(strict=True)).validate_python(_plain(arguments[key]))
        except ValidationError as error:
            msg = f"{owner}: {key} must be {words(argument.annotation)}, got {arguments[key]!r}; correct it"
            raise InputError(msg) from error


def _plain(value: Any) -> Any:
    """``value`` with lists in place of tuples, as YAML has it."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def _hashable(value: Any) -> Any:
    """``value`` with tuples in place of lists, as constructors expect them."""
    return tuple(_hashable(inner) for inner in value) if isinstance(value, (list, tuple)) else value
