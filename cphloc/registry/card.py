"""The card of a component: metadata that its class signature does not hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError

from cphloc.config.nodes import Node
from cphloc.config.problems import problems_of
from cphloc.errors import Problem, RecipeError, did_you_mean
from cphloc.registry.kinds import ALL, CLOSED_KEYS, article, some


def _split(value: Any) -> Any:
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


Line = Annotated[str, StringConstraints(min_length=1, pattern=r"^[^\n]+$")]
Words = Annotated[list[Line], BeforeValidator(_split)]
"""Words separated by commas, or a list of them."""


class ObjectSize(BaseModel):
    """Size of the objects of a data set: edges of their boxes in array order, in mm, or voxels where no mm are known.

    Args:
        small: 5th percentile of each edge.
        median: median of each edge.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, defer_build=True)

    small: list[float]
    median: list[float]


class Card(BaseModel):
    """Metadata of a component.

    Args:
        import_: ``module:Class``; in YAML ``import``.
        signature: Python parameters, in place of ``import_``, of a component without a class.
        dims: numbers of axes it works with.
        takes: its input; for a loss the inputs of its ``forward``.
        gives: its output; for a data set the strongest rungs of its annotations.
        rung: of the supervision ladder, for a head; for a loss, a weaker rung than its head's that it learns from too.
        loss: input that the loss of a head must take.
        channels: image channels of a data set, in order.
        modality: DICOM's name of a data set's modality; as many as channels where they differ by channel.
        organ: of a data set, the organ or region of the body that it shows.
        units: of a data set, the unit of each channel, such as ``SUV x 100``; see `cphloc.structures.units`.
        direction: of a metric, which way is better: ``higher``, ``lower``, ``zero`` (closest to 0) or ``none``.
        unit: of a metric; none for shares and counts.
        headline: tasks that are judged by this metric first.
        physical: whether a metric needs images whose voxel size in mm is known.
        cautions: limits of results on a data set, one line each, such as near-duplicates across its splits.
        object_size: of a data set, for advice on strides and receptive fields.
        requires: an extra of cphloc that must be installed.
        measured: when it is worth it, one sentence from a measurement.
        not_exported: why its tensor part cannot be exported to ONNX, where that is so.
        renamed_from: earlier names.
        renamed_arguments: earlier names of arguments, to today's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True, defer_build=True)

    kind: str
    name: str
    source: str
    summary: Line
    import_: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")] | None = Field(
        None, alias="import"
    )
    signature: str | None = None
    dims: list[Literal[1, 2, 3]] = [2, 3]
    takes: Words = []
    gives: Words = []
    paper: Line | None = None
    requires: Line | None = None
    measured: Line | None = None
    not_exported: Line | None = None
    renamed_from: list[str] = []
    renamed_arguments: dict[str, str] = {}
    rung: Line | None = None
    loss: Line | None = None
    licence: Line | None = None
    citation: Line | list[Line] | None = None
    url: Line | None = None
    modality: Words = []
    channels: list[Line] | None = None
    organ: Words = []
    units: Words = []
    classes: dict[int, str] | list[str] | None = None
    laterality: bool = False
    cautions: list[Line] = []
    object_size: ObjectSize | None = None
    splits: list[str] | dict[str, int] | None = None
    direction: Line | None = None
    unit: Line | None = None
    headline: Words = []
    physical: bool = False


def card_from(node: Node, kind: str, name: str, path: str) -> Card:
    """Validate a YAML node and convert it to a card.

    Args:
        node: the card with the positions of its values.
        kind: its kind, see `cphloc.registry.kinds`.
        name: its name.
        path: its file, for messages.

    Raises:
        RecipeError: with every problem of the card.
    """
    if not isinstance(node.value, dict):
        raise RecipeError([Problem(str(node.where), "(top)", "not a card", "write 'import:', 'summary:' and so on")])
    stated: dict[str, Any] = {"kind": kind, "name": name, "source": path}
    try:
        card = Card.model_validate({**node.plain, **stated})
    except ValidationError as error:
        raise RecipeError(problems_of(error, Card, node)) from None
    problems = [*_missing_keys(card, node), *_unknown_words(card, node)]
    if problems:
        raise RecipeError(problems)
    return card


def _missing_keys(card: Card, node: Node) -> Iterator[Problem]:
    """Yield a problem for each required key that is missing."""
    needed = ALL[card.kind].needs or (() if card.import_ else ("signature",))
    for key in needed:
        if getattr(card, key) in (None, []):
            yaml_key = key.rstrip("_")
            what = f"{article(card.kind)} {card.kind} card needs it"
            yield Problem(str(node.where), yaml_key, what, f"add '{yaml_key}:'")


def _unknown_words(card: Card, node: Node) -> Iterator[Problem]:
    """Yield a problem for each word outside the vocabulary of its key, and for keys that only other kinds have."""
    for key in sorted(CLOSED_KEYS & set(node.children)):
        child, allowed = node.children[key], ALL[card.kind].words.get(key)
        if allowed is None:
            what = f"{article(card.kind)} {card.kind} card has no '{key}'"
            yield Problem(str(child.key_where), key, what, f"remove '{key}:'")
            continue
        value = getattr(card, key)
        for word in [value] if isinstance(value, str) else value or ():
            if word not in allowed:
                fix = did_you_mean(word, allowed) or "choose one of them"
                yield Problem(str(child.where), key, f"'{word}' is not one of {some(allowed, 99)}", fix)
