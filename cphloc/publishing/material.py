"""Collect what publishing needs: the run, its facts and evaluation, the data set, and the texts."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from packaging.version import Version

from cphloc.data.case import Case
from cphloc.data.dataset import Dataset
from cphloc.data.pipeline.pipeline import open_dataset
from cphloc.distributed.machine import peak_ram_mb
from cphloc.errors import InputError
from cphloc.evaluation.stored_predictions import predict_case
from cphloc.inference.localizer import Localizer
from cphloc.publishing.about import About
from cphloc.publishing.source import data_card
from cphloc.registry.card import Card
from cphloc.structures.split import OUT_OF_FOLD, Split
from cphloc.tracking.run import Run, read_record
from cphloc.zoo.entries import Listing
from cphloc.zoo.index import version_folders
from cphloc.zoo.load import trained_weights
from cphloc.zoo.weights import build_with_weights, half_precision

SPLIT: Split = "test"
"""The split whose metrics an entry states; one of a cross-validation states those of its out-of-fold predictions."""

_TIMED = 3
"""Number of cases that the speed of an ensemble is measured on."""


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
        members: number of networks to publish of a cross-validation; ``None`` for all.
        tested: evaluation of the ensemble of a cross-validation on the test split; empty where it was not evaluated
            there, or where not all networks are published.
    """

    run: Run
    facts: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    dataset: Dataset
    source: Card
    about: About
    last: Listing | None
    members: int | None = None
    tested: Mapping[str, Any] = field(default_factory=dict)

    @property
    def split(self) -> str:
        """What the metrics of the entry are measured on: ``test`` or ``out_of_fold``."""
        return _split_of(self.run)

    @property
    def rows(self) -> Path:
        """The CSV of the evaluation with a row per case."""
        return self.run.evaluation_files(self.split)[1]

    @property
    def evaluated(self) -> list[Case]:
        """The cases that the metrics are measured on."""
        ids = set(self.evaluation.get("cases") or [])
        splits: tuple[Split, ...] = ("train", "val") if self.run.is_cross_validation else (SPLIT,)
        return [case for split in splits for case in self.dataset.cases(split) if case.id in ids]


def _split_of(run: Run) -> str:
    return OUT_OF_FOLD if run.is_cross_validation else SPLIT


def gather(
    run: Run,
    name: str,
    zoo: Path,
    about: str | Path | Mapping[str, Any] | None = None,
    members: int | None = None,
) -> Material:
    """Read everything needed to publish a run.

    Args:
        run: the run.
        name: of the entry.
        zoo: folder with earlier versions of it.
        about: texts; see `About.gather`.
        members: number of networks to publish of a cross-validation; ``None`` for all.

    Raises:
        InputError: ``members`` is given for a run that is no cross-validation.
    """
    if members is not None and not run.is_cross_validation:
        msg = f"run '{run.id}' is not a cross-validation, so it has no members; leave them out"
        raise InputError(msg)
    last = _last(name, zoo)
    dataset = open_dataset(run.recipe.data, run.recipe.dims)
    evaluation = read_record(run.evaluation_files(_split_of(run))[0])
    if evaluation and run.is_cross_validation:
        evaluation = evaluation | {"speed": _ensemble_speed(run, members, dataset)}
    return Material(
        run=run,
        facts=run.facts,
        evaluation=evaluation,
        dataset=dataset,
        source=data_card(run.recipe.data),
        about=About.gather(about, run, last.entry if last else None),
        last=last,
        members=members,
        tested=read_record(run.evaluation_files(SPLIT)[0]) if run.is_cross_validation and members is None else {},
    )


def _ensemble_speed(run: Run, members: int | None, dataset: Dataset) -> dict[str, Any]:
    """Measure how long the ensemble takes for a case, on a few cases."""
    recipe, weights = trained_weights(run, members)
    localizer = Localizer(build_with_weights(recipe, half_precision(weights), str(run.folder)), recipe)
    cases = dataset.cases("train")[:_TIMED]
    milliseconds = [predict_case(localizer, case).milliseconds for case in cases]
    return {"ms_per_case": statistics.median(milliseconds), "peak_ram_mb": peak_ram_mb()}


def _last(name: str, zoo: Path) -> Listing | None:
    held = {version: path for _, version, path in version_folders(zoo, lambda found: found == name)}
    newest = max(held, key=Version, default=None)
    return Listing(name, newest, held[newest]) if newest is not None else None
