"""Collect what publishing needs: the run, its facts and evaluation, the data set, and the texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.version import Version

from cphloc.data.dataset import Dataset
from cphloc.data.pipeline.pipeline import open_dataset
from cphloc.publishing.about import About
from cphloc.recipe.recipe import Data
from cphloc.registry import catalogue
from cphloc.registry.card import Card
from cphloc.structures.split import Split
from cphloc.tracking.run import Run, read_record
from cphloc.zoo.entries import Listing
from cphloc.zoo.index import version_folders

SPLIT: Split = "test"
"""The split whose metrics an entry states."""


@dataclass(frozen=True)
class Material:
    """What publishing needs.

    Args:
        run: the training.
        facts: its ``facts.json``: seed, commit, packages, data fingerprint; empty where there is none.
        evaluation: its test evaluation; empty where it was not evaluated.
        dataset: the cases.
        source: the card of the data set, see `data_card`.
        about: the texts.
        last: the newest version of the entry so far.
    """

    run: Run
    facts: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    dataset: Dataset
    source: Card
    about: About
    last: Listing | None

    @property
    def rows(self) -> Path:
        """The CSV of the evaluation with a row per case."""
        return self.run.folder / f"evaluation-{SPLIT}.csv"


def gather(run: Run, name: str, zoo: Path, about: str | Path | Mapping[str, Any] | None = None) -> Material:
    """Read everything needed to publish a run.

    Args:
        run: the run.
        name: of the entry.
        zoo: folder with earlier versions of it.
        about: texts; see `About.gather`.
    """
    last = _last(name, zoo)
    return Material(
        run=run,
        facts=run.facts,
        evaluation=read_record(run.folder / f"evaluation-{SPLIT}.json"),
        dataset=open_dataset(run.recipe.data, run.recipe.dims),
        source=data_card(run.recipe.data),
        about=About.gather(about, run, last.entry if last else None),
        last=last,
    )


def data_card(data: Data) -> Card:
    """Return the card of a recipe's data set, with what ``data.about`` states of one's own data in its place.

    Args:
        data: section ``data`` of the recipe.
    """
    card = catalogue.card("dataset", data.type)
    if data.about is None:
        return card
    stated = {**data.about.model_dump(), "url": data.about.source}
    del stated["source"]
    own = {key: value for key, value in stated.items() if value}
    return card.model_copy(update={"url": None, **own})


def _last(name: str, zoo: Path) -> Listing | None:
    held = {version: path for _, version, path in version_folders(zoo, lambda found: found == name)}
    newest = max(held, key=Version, default=None)
    return Listing(name, newest, held[newest]) if newest is not None else None
