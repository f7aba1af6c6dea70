"""Build and check everything a training needs before its first batch: data, model, validator and settings."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from torch.optim import Optimizer

from cphloc.data.case import strongest_rung
from cphloc.data.dataset import Dataset
from cphloc.data.pipeline.loader import Batch
from cphloc.data.pipeline.pipeline import Pipeline
from cphloc.data.pipeline.prepare import PreparedCases
from cphloc.data.pipeline.seen import SeenData
from cphloc.distributed import processes
from cphloc.errors import DataError, InputError, NotFoundError, RecipeError, did_you_mean
from cphloc.evaluation.unseen import earlier_data
from cphloc.evaluation.validate import Validator, metric_names
from cphloc.modeling.build import build_model
from cphloc.modeling.build import check as check_model
from cphloc.modeling.classes import model_classes, with_matched_classes
from cphloc.modeling.model import Model
from cphloc.recipe.fields import OWN_AVERAGE
from cphloc.recipe.recipe import Recipe
from cphloc.registry import catalogue
from cphloc.registry.metrics import has_direction
from cphloc.structures.annotation import Rung
from cphloc.structures.padding import prediction_fill
from cphloc.training.class_balance import balance_losses
from cphloc.training.distillation import (
    Teacher,
    as_the_teacher,
    check_own_average,
    check_same_classes,
    check_test_unseen,
    open_teacher,
)
from cphloc.training.finetune import Takeover, preparation_differences, take_over
from cphloc.training.gradient_checkpointing import checkpoint_blocks
from cphloc.training.matching import named_axes
from cphloc.training.optim import build_optimizer, build_schedule, freeze
from cphloc.training.settings import Batches, Settings, Strategy


@dataclass(frozen=True)
class Preparation:
    """Everything that a training needs, made by `prepare`.

    Args:
        recipe: the recipe that is trained.
        pipeline: reads cases and makes training batches.
        splits: prepared cases of the splits ``train`` and ``val``.
        model: the model with its initial weights, and the parameters in ``recipe.freeze`` frozen.
        validator: computes the validation metrics of a model.
        settings: how to train.
        teacher: model whose probabilities are learned beside the annotations; ``None`` for none.
    """

    recipe: Recipe
    pipeline: Pipeline
    splits: dict[str, PreparedCases]
    model: Model
    validator: Validator
    settings: Settings
    teacher: Teacher | None = None

    def batches(self) -> Batches:
        """Return the training batches; in distributed training each is divided equally among the processes."""

        def _batches(first: int, rank: int, ranks: int) -> Iterable[Batch]:
            return self.pipeline.batches(self.recipe.train.batch // ranks, first, rank, ranks)

        return _batches


def prepare(recipe: Recipe, strategy: Strategy = "ddp", fresh: bool = True) -> Preparation:
    """Open the data set, build the model, load its initial weights and prepare the cases; quick checks come first.

    Args:
        recipe: the recipe to train.
        strategy: how several processes share the work, see `cphloc.training.settings.Settings`.
        fresh: whether to load the weights of the recipe's ``from``; false for a training that resumes.

    Raises:
        RecipeError: components do not fit together, or classes are not those of the data set.
        NotFoundError: missing data or zoo entry, a pattern that matches no parameter, or an unknown metric.
        DataError: cases cannot be read or used, or the model to start from was trained on the fold that is held out.
        InputError: the batch size is not divisible by the number of processes, or every parameter is frozen.
    """
    settings = Settings.from_recipe(recipe, strategy)
    _check_processes(recipe.train.batch, strategy)
    _check_trainable(recipe)
    if recipe.train.teacher == OWN_AVERAGE:
        check_own_average(recipe, strategy)
    taught = None if recipe.train.teacher in (None, OWN_AVERAGE) else open_teacher(recipe)
    if taught is not None:
        recipe = as_the_teacher(recipe, taught[0])
    pipeline = Pipeline.from_recipe(recipe)
    classes = pipeline.dataset.classes
    problems = check_model(recipe, classes)
    if problems:
        raise RecipeError(problems)
    recipe = with_matched_classes(recipe, classes)
    classes = model_classes(recipe, classes)
    torch.manual_seed(recipe.train.seed)
    model = build_model(recipe)
    if recipe.from_ and fresh:
        report = start_from(model, recipe)
        if processes.is_first():
            print(f"from {recipe.from_}: {report}", file=sys.stderr)
    freeze_and_optimize(model, settings)
    if processes.is_first():
        print(pipeline.samples.draws.describe(), file=sys.stderr)
    splits = {"train": pipeline.samples.cases, "val": pipeline.cases("val")}
    check_best(recipe, classes, strongest_rung(splits["val"].cases), splits["val"][0].geometry.unit)
    if fresh:
        _check_held_out(recipe, pipeline.dataset)
    if recipe.train.gradient_checkpointing:
        checkpoint_blocks(model)
    balance_losses(model, splits["train"], pipeline.dataset.classes)
    fill = prediction_fill(pipeline.pad)
    validator = Validator(splits["val"], classes, pipeline.patch, fill, recipe.nsd_tolerance_mm)
    if taught is not None:
        check_test_unseen(taught[1] or taught[0].listing, pipeline.dataset)
        check_same_classes(recipe, taught[0], model)
    teacher = Teacher.from_recipe(recipe.train, taught and taught[0]) if recipe.train.teacher else None
    if teacher is not None and processes.is_first():
        print(teacher.describe(str(recipe.train.teacher)), file=sys.stderr)
    return Preparation(recipe, pipeline, splits, model, validator, settings, teacher)


def start_from(model: Model, recipe: Recipe) -> Takeover:
    """Initialize ``model`` in place from the weights of a zoo entry or training run, classes and channels by name.

    Args:
        model: the model to initialize.
        recipe: its recipe; ``from`` is the name of a zoo entry, or the id or folder of a run.

    Returns:
        which tensors were loaded, adapted and skipped, and how the images are prepared otherwise.
    """
    from cphloc.evaluation.evaluate import open_localizer

    spec = str(recipe.from_)
    found = open_localizer(spec)[0]
    axes, notes = named_axes(recipe, found.recipe)
    report = take_over(model, found.model.state_dict(), spec, axes)
    report.notes += [*notes, *preparation_differences(recipe, found.recipe)]
    return report


def freeze_and_optimize(model: nn.Module, settings: Settings) -> Optimizer:
    """Freeze the parameters in ``settings.freeze`` and build the optimizer of the others; also check the schedule.

    Raises:
        NotFoundError: a pattern matches no parameter, or an unknown optimizer, schedule or argument.
        InputError: every parameter is frozen, or the warm-up is not shorter than the training.
    """
    freeze(model, settings.freeze)
    build_schedule(steps=settings.steps, warmup_steps=settings.warmup_steps, **settings.schedule)
    return build_optimizer(model, **settings.optimizer)


def check_best(recipe: Recipe, classes: Mapping[int, str], rung: Rung | None, unit: Literal["mm", "px"]) -> None:
    """Check that validation computes the metric that selects the best weights.

    Args:
        recipe: the recipe; ``train.best`` names the metric, else the task has a default one.
        classes: classes of the data set, number 1..K -> name.
        rung: strongest type of annotation of the validation cases; ``None`` if they have none.
        unit: unit of the voxel sizes.

    Raises:
        NotFoundError: the metric is not computed for these heads and validation cases.
    """
    best = recipe.headline
    gives = {word for block in recipe.model.heads.values() for word in catalogue.card("head", block.type).gives}
    names = metric_names(gives, rung, unit, recipe.dims, classes)
    if not has_direction(best):
        msg = f"train.best: of '{best}' no value is better than another; choose a metric that has a best value"
        raise InputError(msg)
    if best in names:
        return
    known = ", ".join(sorted(name for name in names if "/" not in name)) or "none"
    if recipe.train.best is None:
        msg = (
            f"task: the metric of task {recipe.task} is '{best}', but with these heads and validation cases only "
            f"{known} can be computed; add a head for it, change the task, or choose another metric: train.best"
        )
        raise NotFoundError(msg)
    hint = did_you_mean(best, names) or f"for this model and its validation cases: {known}"
    msg = f"train.best: no metric '{best}'; {hint}"
    raise NotFoundError(msg)


def _check_held_out(recipe: Recipe, dataset: Dataset) -> None:
    """Warn where the model to start from was trained on cases that are held out now, and refuse that for a fold.

    Raises:
        DataError: it was trained on cases of the fold that is held out.
    """
    seen = SeenData({}, {}).inheriting(earlier_data(recipe))
    source = f"from {recipe.from_}" if recipe.from_ else f"train.teacher {recipe.train.teacher}"
    validated, tested = (seen.leaks(dataset.cases(split), split, own=False) for split in ("val", "test"))
    if validated and recipe.fold is not None:
        msg = f"{source}: {'; '.join(validated)}; start from a model that has not seen the cases of the folds"
        raise DataError(msg)
    for leak in [*validated, *tested] if processes.is_first() else ():
        print(f"{source}: {leak}; their metrics would mean nothing and are refused", file=sys.stderr)


def _check_trainable(recipe: Recipe) -> None:
    """Refuse an ensemble, and a training that the held-out cases would stop."""
    if recipe.model.members > 1:
        msg = (
            "model.members: an ensemble is made by publishing a cross-validation, not trained; set it to 1, or train "
            "one network on the ensemble's probabilities: train.teacher"
        )
        raise InputError(msg)
    if recipe.fold is not None and recipe.train.patience is not None:
        msg = "train.patience: would stop the training by the cases of the fold that is held out; remove it for folds"
        raise InputError(msg)


def _check_processes(batch: int, strategy: Strategy) -> None:
    ranks = processes.count()
    if batch % ranks:
        msg = f"train.batch: {batch} cannot be divided equally among {ranks} processes; choose a multiple of {ranks}"
        raise InputError(msg)
    if strategy == "fsdp" and ranks == 1:
        msg = "--strategy fsdp needs more than one process; add --devices N, or leave --strategy out"
        raise InputError(msg)
