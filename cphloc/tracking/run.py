"""A training run on disk."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cphloc.errors import NotFoundError, did_you_mean
from cphloc.recipe.recipe import Recipe, load

RUNS = Path("runs")

LATEST = "latest"
"""Name of the newest run under ``runs`` of the working folder."""


@dataclass(frozen=True)
class Place:
    """Where a run belongs; that of a training by itself is all defaults.

    Args:
        runs: folder of runs.
        experiment: in MLflow; by default ``cphloc/<recipe>``.
        name: of the run in MLflow; by default its id.
        parent: id of the MLflow run that it is nested in.
        pictures: whether to draw learning curves and cases.
    """

    runs: Path = RUNS
    experiment: str = ""
    name: str = ""
    parent: str = ""
    pictures: bool = True


@dataclass(frozen=True)
class Run:
    """A finished or interrupted training: ``runs/<recipe>/<id>/``.

    The folder holds ``recipe.yaml`` (complete), ``best.safetensors`` (weights to publish), ``last.safetensors`` (to
    resume), ``metrics.json``, ``cases.csv`` (one row a validation case), ``pictures/`` and the record for MLflow.

    Args:
        id: unique name.
        folder: where it is.
        recipe: what was trained.
        metrics: by the names they have in MLflow, ``val/dice``.
    """

    id: str
    folder: Path
    recipe: Recipe
    metrics: dict[str, float]

    @classmethod
    def open(cls, name: str | Path | Run) -> Run:
        """Open a run by its folder; by its id, or as ``latest``, if it lies under ``runs`` of the working folder.

        Raises:
            NotFoundError: there is no such run.
        """
        if isinstance(name, Run):
            return name
        folder = _find(name)
        metrics = folder / "metrics.json"
        found = json.loads(metrics.read_text(encoding="utf-8")) if metrics.is_file() else {}
        return cls(folder.name, folder, load(folder / "recipe.yaml"), found)

    @classmethod
    def create(cls, recipe: Recipe, runs: Path = RUNS) -> Run:
        """Make the folder of a new run and write its recipe there."""
        name = f"{datetime.now(UTC):%Y%m%d-%H%M%S-%f}"  # the later run has the greater name: see ``latest``
        folder = runs / recipe.name / name
        (folder / "pictures").mkdir(parents=True)
        (folder / "recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
        return cls(name, folder, recipe, {})

    def with_results(self, metrics: Mapping[str, float], cases: Sequence[Mapping[str, Any]]) -> Run:
        """Write metrics and the rows of cases; returns the run that holds them."""
        metrics = {**self.metrics, **metrics}
        (self.folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
        write_cases(self.folder / "cases.csv", cases)
        return Run(self.id, self.folder, self.recipe, metrics)


def write_cases(path: Path, cases: Sequence[Mapping[str, Any]]) -> None:
    """Write one row a case as CSV; a metric that a case lacks stays empty."""
    columns = list(dict.fromkeys(column for row in cases for column in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(cases)


def run_names() -> list[str]:
    """Return the ids of the runs under ``runs`` of the working folder, and ``latest`` where there is any."""
    known = _known()
    return [*known, LATEST] if known else []


def _known() -> dict[str, Path]:
    """Folders of the runs under ``runs`` of the working folder, by id."""
    return {path.parent.name: path.parent for path in RUNS.glob("*/*/recipe.yaml")}


def _find(name: str | Path) -> Path:
    folder = Path(name)
    if (folder / "recipe.yaml").is_file() and not (folder / "entry.yaml").is_file():
        return folder
    known = _known()
    if str(name) == LATEST and known:
        return known[max(known)]
    if str(name) not in known:
        hint = did_you_mean(str(name), known) or "give its folder, or run this where its 'runs' folder is"
        msg = f"no run '{name}'; {hint}"
        raise NotFoundError(msg)
    return known[str(name)]
