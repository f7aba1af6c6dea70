"""Training runs on disk: create, open and list them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cphloc.config import jsonio, yamlio
from cphloc.config.tables import write_table
from cphloc.errors import DataError, InputError
from cphloc.files import atomic, flush, flush_all, rename_folder, temporary_folder
from cphloc.recipe.recipe import Recipe, load
from cphloc.structures.display import Display, Displayed, image_html, listed
from cphloc.structures.split import OUT_OF_FOLD
from cphloc.tracking import record
from cphloc.tracking.run_folders import RUNS, begun_at, find_run, known_runs, next_id

_TEXTS = ("description", "about")
_PLACES = ("root", "workers", "skip_bad")

FOLDS_FILE = "splits_final.json"
"""Name of the file with the folds of a cross-validation, in the format of nnU-Net."""


@dataclass(frozen=True)
class Place:
    """Location of a run on disk and in MLflow; the defaults are those of a single training outside a study.

    Args:
        runs: folder that contains the folders of runs.
        experiment: name of the MLflow experiment; by default ``cphloc/<recipe>``.
        name: name of the MLflow run; by default the title of the run.
        parent: id of the MLflow run under which this run is nested; by default none.
        pictures: whether to draw learning curves and pictures of cases.
        folder: folder of the run itself, where it is not a new one in ``runs``.
    """

    runs: Path = RUNS
    experiment: str = ""
    name: str = ""
    parent: str = ""
    pictures: bool = True
    folder: Path | None = None


def read_record(path: Path) -> dict[str, Any]:
    """Read a JSON file of a run, such as ``facts.json``; empty where it does not exist.

    Raises:
        DataError: it is not JSON.
    """
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            msg = "not a mapping"
            raise ValueError(msg)
        return found
    except (ValueError, RecursionError) as error:
        msg = f"{path}: not JSON ({error}); write it again"
        raise DataError(msg) from None


@dataclass(frozen=True, repr=False)
class Run(Displayed):
    """A running, finished or interrupted training in the folder ``runs/<recipe>/<id>/``.

    The folder contains ``recipe.yaml`` (complete), ``best.safetensors`` (weights of the best validation),
    ``last.safetensors`` (checkpoint to resume from), ``facts.json`` (origin), ``data.json`` (hashes of the cases that
    were used), ``metrics.json``, ``cases.csv`` (one row per validation case),
    ``pictures/`` and the log for MLflow.

    Args:
        id: unique name, the time at which the run was created; ids sort in the order of creation.
        folder: folder of the run.
        recipe: recipe that is trained.
        metrics: value of each metric by its name in MLflow, such as ``val/dice``.
    """

    id: str
    folder: Path
    recipe: Recipe
    metrics: dict[str, float]

    @property
    def facts(self) -> dict[str, Any]:
        """Provenance of the run from ``facts.json``: seed, packages, fingerprints of the data; empty without it."""
        return read_record(self.folder / "facts.json")

    @classmethod
    def open(cls, name: str | Path | Run) -> Run:
        """Open a run.

        Args:
            name: folder of the run (a `Path`, or a text with a slash); or, for runs under ``runs`` in the working
                folder, an id or ``latest``. A `Run` is returned unchanged.

        Raises:
            NotFoundError: there is no such run.
        """
        if isinstance(name, Run):
            return name
        folder = find_run(name)
        return cls(folder.name, folder, load(folder / "recipe.yaml"), _stored_metrics(folder))

    @classmethod
    def create(cls, recipe: Recipe, place: Place | None = None, fill: Callable[[Run], None] = lambda run: None) -> Run:
        """Create the folder of a new run, whole or not at all, and write the recipe to it.

        Args:
            recipe: the recipe to train.
            place: where; by default in a new folder under ``runs``.
            fill: writes further files to the folder of the run that it is given, before the folder gets its name.

        Raises:
            InputError: the folder that ``place`` states exists already.
        """
        place = place or Place()
        folder = place.folder or place.runs / recipe.name / next_id(known_runs(place.runs))
        with temporary_folder(folder) as aside:
            (aside / "pictures").mkdir()
            (aside / "recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
            fill(cls(folder.name, aside, recipe, {}))
            flush_all(aside)
            if not rename_folder(aside, folder):
                if place.folder is not None:
                    msg = f"{folder}: exists already; resume the run in it, or give another folder"
                    raise InputError(msg)
                return cls.create(recipe, place, fill)  # another process has begun one in the same microsecond
            flush(folder.parent)
        return cls(folder.name, folder, recipe, {})

    @property
    def title(self) -> str:
        """Name for people: the recipe, and the time (UTC) at which the run was created."""
        begun = begun_at(self.id)
        return f"{self.recipe.name} {self.id if begun == datetime.min else f'{begun:%Y-%m-%d %H:%M:%S}'}"

    @property
    def finished(self) -> bool:
        """Whether the results are complete and the end is logged for MLflow; a run without a log counts by results."""
        logged = record.events(self.folder)
        return bool(self.metrics) and (not logged or any(event.get("status") == "FINISHED" for event in logged))

    @property
    def is_cross_validation(self) -> bool:
        """Whether this is a cross-validation, whose folds are runs in ``fold-1``, ``fold-2``, ..."""
        return (self.folder / FOLDS_FILE).is_file()

    @property
    def fold_folders(self) -> list[Path]:
        """Folders of the runs of a cross-validation, one per fold, whether they exist yet or not."""
        folds = self.recipe.data.folds
        return [] if folds is None else [self.folder / f"fold-{number}" for number in range(1, folds.of + 1)]

    def evaluation_files(self, split: str) -> tuple[Path, Path]:
        """Paths of the JSON file and the CSV file with the evaluation of a split, whether they exist or not."""
        table, rows = evaluation_files(split)
        return self.folder / table, self.folder / rows

    @property
    def weights_sha256(self) -> str | None:
        """SHA-256 of ``best.safetensors``, of a cross-validation that of the hashes of its folds; ``None`` without."""
        if self.is_cross_validation:
            each = [_sha256(folder / "best.safetensors") for folder in self.fold_folders]
            known = [digest for digest in each if digest is not None]
            return hashlib.sha256(" ".join(known).encode()).hexdigest() if len(known) == len(each) else None
        return _sha256(self.folder / "best.safetensors")

    @property
    def recipe_digest(self) -> str:
        """SHA-256 of what ``recipe.yaml`` says now, apart from texts and places, which do not affect the weights."""
        plain = yamlio.load(self.folder / "recipe.yaml").plain
        kept = {key: value for key, value in plain.items() if key not in _TEXTS and not key.startswith("x-")}
        kept["data"] = {key: value for key, value in (plain.get("data") or {}).items() if key not in _PLACES}
        return hashlib.sha256(jsonio.dumps(kept, sort_keys=True).encode()).hexdigest()

    def check_recipe(self) -> None:
        """Check that ``recipe.yaml`` is the recipe that was trained.

        Raises:
            InputError: it was edited after the training.
            DataError: ``facts.json`` is damaged.
        """
        facts = self.facts
        stated = facts.get("recipe_file_sha256")
        if stated in (None, self.recipe_digest) or self.recipe.sha256 == facts.get("recipe_sha256"):
            return
        file = self.folder / "recipe.yaml"
        msg = (
            f"{file}: the recipe was edited after the training, so it is not the one that made these weights; "
            f"restore it (MLflow keeps a copy with the run), or train the new one: cphloc train {file}"
        )
        raise InputError(msg)

    def _display(self) -> Display:
        kind = "Cross-validation" if self.is_cross_validation else "Run"
        measured = {name: value for name, value in self.metrics.items() if "/" in name}
        evaluated = sorted(path.stem.removeprefix("evaluation-") for path in self.folder.glob("evaluation-*.json"))
        rows = [
            ("recipe", f"{self.recipe.name}: {self.recipe.task} in {self.recipe.dims}-D on {self.recipe.data.type}"),
            ("folder", str(self.folder)),
            ("state", "finished" if self.finished else "not finished; cphloc train --resume FOLDER goes on"),
            *((name, f"{value:.4g}") for name, value in list(measured.items())[:5]),
            ("evaluated", listed(evaluated) or "not yet; cphloc evaluate FOLDER"),
        ]
        return Display(f"{kind} {self.id}", rows, lambda: image_html(self.folder / "pictures/curves.png", "curves"))

    def with_results(self, metrics: Mapping[str, float], cases: Sequence[Mapping[str, Any]]) -> Run:
        """Write ``cases.csv`` and then ``metrics.json``, which marks them complete; returns the run with these metrics.

        Args:
            metrics: value of each metric by name; they are added to the metrics of the run.
            cases: one row per case.
        """
        metrics = {**self.metrics, **metrics}
        with atomic(self.folder / "cases.csv") as temporary:
            write_cases(temporary, cases)
        with atomic(self.folder / "metrics.json") as temporary:
            temporary.write_text(jsonio.dumps(metrics, indent=2) + "\n", encoding="utf-8")
        return Run(self.id, self.folder, self.recipe, metrics)


def evaluation_files(split: str) -> tuple[str, str]:
    """Return the names of the JSON file and the CSV file with the evaluation of a split."""
    return f"evaluation-{split}.json", "cases.csv" if split == OUT_OF_FOLD else f"evaluation-{split}.csv"


def write_cases(path: Path, cases: Sequence[Mapping[str, Any]]) -> None:
    """Write one row per case to a CSV file; metrics that a case does not have stay empty."""
    columns = list(dict.fromkeys(column for row in cases for column in row))
    write_table(path, columns, cases)


def _sha256(path: Path) -> str | None:
    """Hash of a file, read in pieces; ``None`` where there is none."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _stored_metrics(folder: Path) -> dict[str, float]:
    """Read ``metrics.json``; empty where it is missing or torn, so that the run counts as unfinished."""
    path = folder / "metrics.json"
    try:
        stored = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        return {name: jsonio.number(value) for name, value in stored.items()}
    except (ValueError, AttributeError, TypeError, RecursionError):
        return {}
