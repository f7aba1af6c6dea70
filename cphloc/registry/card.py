"""The card of a component: what its class signature cannot say."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError

from cphloc.config.nodes import Node
from cphloc.config.problems import problems_of
from cphloc.errors import Problem, RecipeError
from cphloc.registry.kinds import KINDS, article


def _split(value: Any) -> Any:
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


Line = Annotated[str, StringConstraints(min_length=1, pattern=r"^[^\n]+$")]
Words = Annotated[list[Line], BeforeValidator(_split)]
"""Words separated by commas, or a list of them."""


class ObjectSize(BaseModel):
    """How large the objects of a data set are: edges of their boxes in array order, mm where its images have them.

    Args:
        small: 5th percentile of each edge.
        median: median of each edge.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    small: list[float]
    median: list[float]


class Card(BaseModel):
    """What a class signature cannot say about a component.

    Args:
        import_: ``module:Class``; in YAML ``import``.
        signature: in place of ``import_`` for allow-listed names, Python parameters.
        dims: numbers of axes it works with.
        takes: what it takes; for a loss what its ``forward`` expects.
        gives: what it gives; for a data set the strongest rungs of its annotations.
        rung: of the supervision ladder, for a head.
        loss: what the loss of a head must take.
        channels: image channels of a data set, in order.
        modality: DICOM's name of a data set's modality; as many as channels where they differ by channel.
        object_size: of a data set, for advice on strides and receptive fields.
        requires: an extra of cphloc that must be installed.
        not_exported: why its tensor part cannot be exported to ONNX, where that is so.
        renamed_from: earlier names.
        renamed_arguments: earlier names of arguments, to today's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)

    kind: str
    name: str
    source: str
    summary: Line
    import_: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")] | None = Field(
        None, alias="import"
    )
    signature: str | None = None
    dims: list[int] = [2, 3]
    takes: Words = []
    gives: Words = []
    paper: Line | None = None
    requires: Line | None = None
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
    classes: dict[int, str] | list[str] | None = None
    laterality: bool = False
    object_size: ObjectSize | None = None
    splits: list[str] | dict[str, int] | None = None


_NEEDED = {
    "head": ("rung",),
    "loss": ("takes",),
    "dataset": ("licence", "citation", "url", "modality"),
}


def card_from(node: Node, kind: str, name: str, path: str) -> Card:
    """Check what was read as a card.

    Raises:
        RecipeError: with every problem of the card.
    """
    if not isinstance(node.value, dict):
        raise RecipeError([Problem(str(node.where), "(top)", "not a card", "write 'import:', 'summary:' and so on")])
    stated: dict[str, Any] = {"kind": kind, "name": name, "source": path}
    try:
        found = Card.model_validate({**node.plain, **stated})
    except ValidationError as error:
        raise RecipeError(problems_of(error, Card, node)) from None
    needed = ["import_"] if kind in KINDS else [] if found.import_ else ["signature"]
    lacking = [key for key in (*needed, *_NEEDED.get(kind, ())) if getattr(found, key) in (None, [])]
    if lacking:
        what = f"{article(kind)} {kind} card needs it"
        keys = [key.rstrip("_") for key in lacking]
        raise RecipeError([Problem(str(node.where), key, what, f"add '{key}:'") for key in keys])
    return found
