"""Check that a recipe can be trained, without loading training images.

Takes the same steps as `cphloc.training.preparation.prepare`, with a model on the meta device.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from cphloc.data.case import Case, read_case, strongest_rung
from cphloc.data.dataset import Dataset
from cphloc.data.fingerprint import check_splits
from cphloc.data.pipeline.pipeline import Pipeline, open_dataset
from cphloc.errors import DataError, InputError, NotFoundError, Problem, RecipeError
from cphloc.modeling import build
from cphloc.modeling.classes import known_classes, model_classes
from cphloc.modeling.problems import problem_at
from cphloc.recipe.merge import parse_path
from cphloc.recipe.recipe import Recipe
from cphloc.structures.annotation import Rung
from cphloc.structures.split import Split
from cphloc.training.pipeline_run import class_problems
from cphloc.training.preparation import check_best, freeze_and_optimize, start_from
from cphloc.training.settings import Settings


@dataclass
class Checked:
    """Result of `check`.

    Args:
        problems: errors that would stop the training before its first step.
        unchecked: what could not be checked on this machine, and why.
        notes: what differs from the model whose weights the training starts from.
    """

    problems: list[Problem] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def check(recipe: Recipe) -> Checked:
    """Check recipe, data set, model, starting weights, optimizer and schedule without training.

    At most one image is read. If the files of the data set are missing, the classes and annotation types that the
    recipe and the data set's registry card declare are checked instead.

    Args:
        recipe: the recipe to check.

    Returns:
        the problems, and what could not be checked; both lists are empty where the training can start.
    """
    checked = Checked()
    dataset = _dataset(recipe, checked)
    if checked.problems:
        return checked
    if recipe.stages:
        return _check_pipeline(recipe, dataset, checked)
    try:
        checked.problems += build.check(recipe, dataset.classes)
    except InputError as error:
        checked.problems += _problems(recipe, "model", error)
    if checked.problems:
        return checked
    settings, model = Settings.from_recipe(recipe), build.blueprint(recipe)
    steps: list[tuple[str, Callable[[], object]]] = [
        ("data", lambda: _check_data(recipe, dataset)),
        ("model.backbone", lambda: _check_weights(recipe, checked)),
        ("from", lambda: recipe.from_ and checked.notes.extend(start_from(model, recipe).notes)),
        ("train", lambda: freeze_and_optimize(model, settings)),
    ]
    for path, step in steps:
        try:
            step()
        except InputError as error:
            checked.problems += _problems(recipe, path, error)
    return checked


def _check_pipeline(recipe: Recipe, dataset: Dataset, checked: Checked) -> Checked:
    """Check the classes of a pipeline, and the cases that it is evaluated on; its stages were checked as they are."""
    if isinstance(dataset, _Unopened):
        return checked
    checked.problems += class_problems(recipe, dataset.classes)
    try:
        check_splits(dataset)
        if not recipe.data.skip_bad:
            _check_files(dataset.cases("test"))
    except InputError as error:
        checked.problems += _problems(recipe, "data", error)
    return checked


class _Unopened(Dataset):
    """Placeholder for a data set whose files are missing, with the properties that recipe and card declare."""

    def __init__(self, recipe: Recipe) -> None:
        self.dims, self.channels, self.laterality = recipe.dims, recipe.channels, recipe.laterality
        self.classes = {} if recipe.stages else known_classes(recipe) or {}

    def _cases(self, split: Split) -> list[Case]:
        return []


def _dataset(recipe: Recipe, checked: Checked) -> Dataset:
    try:
        return open_dataset(recipe.data, recipe.dims)
    except NotFoundError as error:
        checked.unchecked.append(f"{error}; its classes, cases and files are not checked")
    except InputError as error:
        checked.problems += _problems(recipe, "data", error)
    return _Unopened(recipe)


def _check_data(recipe: Recipe, dataset: Dataset) -> None:
    pipeline = Pipeline.from_recipe(recipe, dataset)
    if isinstance(dataset, _Unopened):
        strongest = max((Rung[word.upper()] for word in recipe.dataset.gives), default=None)
        check_best(recipe, model_classes(recipe, dataset.classes or {1: "object"}), strongest, "mm")
        return
    check_splits(dataset)
    cases = [case for split in ("train", "val") for case in pipeline.listed(split)]
    if not recipe.data.skip_bad:
        _check_files(cases)
    validation = pipeline.listed("val")
    volume, _ = read_case(validation[0], recipe.dims)
    check_best(recipe, model_classes(recipe, dataset.classes), strongest_rung(validation), volume.geometry.unit)


def _check_files(cases: list[Case]) -> None:
    bad = [f"case '{case.id}': {case.annotation.problem}" for case in cases if case.annotation.problem]
    bad += [f"case '{case.id}': {file} does not exist" for case in cases for file in case.files if not file.exists()]
    if bad:
        more = f" (and {len(bad) - 3} more)" if len(bad) > 3 else ""
        msg = f"{', '.join(bad[:3])}{more}; fix them, or leave them out with data.skip_bad: true"
        raise DataError(msg)


def _check_weights(recipe: Recipe, checked: Checked) -> None:
    """Load the initial weights of the backbone, unless they would have to be downloaded."""
    arguments = recipe.model.backbone.args
    if arguments.get("pretrained"):
        name = arguments.get("name", recipe.model.backbone.type)
        checked.unchecked.append(f"the pretrained weights of '{name}' are loaded when the training starts")
    elif arguments.get("weights"):
        build.build_backbone(recipe)


def _problems(recipe: Recipe, path: str, error: InputError) -> list[Problem]:
    """Convert an error to problems at the recipe key that its message starts with, else at ``path``."""
    if isinstance(error, RecipeError):
        return list(error.problems)
    message = str(error)
    named, _, rest = message.partition(": ")
    if rest and recipe.tree.get(parse_path(named)) is not None:
        path, message = named, rest
    what, _, fix = message.rpartition("; ")
    return [problem_at(recipe, parse_path(path), what or fix, fix if what else "change it")]
