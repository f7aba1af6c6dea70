"""What a publication is made of: the run, its facts and evaluation, the data set, and what people say about it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.version import Version

from cphloc.data.dataset import Dataset
from cphloc.data.pipeline.pipeline import open_dataset
from cphloc.errors import DataError
from cphloc.publishing.about import About
from cphloc.registry import catalogue
from cphloc.registry.card import Card
from cphloc.tracking.run import Run
from cphloc.zoo.entries import Listing, version_folders

SPLIT = "test"
"""The split whose metrics an entry states."""


@dataclass(frozen=True)
class Material:
    """What a publication is made of, read once.

    Args:
        run: the training.
        facts: what made its weights.
        evaluation: its test metrics, or ``None``.
        dataset: the cases.
        source: the card of the data set.
        about: what people say about it.
        last: the newest version of the entry so far.
    """

    run: Run
    facts: Mapping[str, Any]
    evaluation: Mapping[str, Any] | None
    dataset: Dataset
    source: Card
    about: About
    last: Listing | None

    @property
    def rows(self) -> Path:
        """The per-case values of the evaluation."""
        return self.run.folder / f"evaluation-{SPLIT}.csv"


def gather(run: Run, name: str, zoo: Path, about: str | Path | Mapping[str, Any] | None = None) -> Material:
    """Read what a publication of ``run`` as ``name`` would be made of."""
    last = _last(name, zoo)
    return Material(
        run=run,
        facts=_json(run.folder / "facts.json") or {},
        evaluation=_json(run.folder / f"evaluation-{SPLIT}.json"),
        dataset=open_dataset(run.recipe.data, run.recipe.dims),
        source=catalogue.card("dataset", run.recipe.data.type),
        about=About.gather(about, run, last.entry if last else None),
        last=last,
    )


def _last(name: str, zoo: Path) -> Listing | None:
    held = {version: path for _, version, path in version_folders(zoo, lambda found: found == name)}
    newest = max(held, key=Version, default=None)
    return Listing(name, newest, held[newest]) if newest is not None else None


def _json(path: Path) -> Any:
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        msg = f"{path}: not JSON ({error}); write it again"
        raise DataError(msg) from None
