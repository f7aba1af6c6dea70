"""Everything a training needs, made and checked before its first batch."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from torch.optim import Optimizer

from cphloc.data.pipeline.loader import Batch
from cphloc.data.pipeline.pipeline import Pipeline
from cphloc.data.pipeline.prepare import PreparedCases
from cphloc.distributed import processes
from cphloc.errors import InputError, NotFoundError, RecipeError, did_you_mean
from cphloc.evaluation.validate import Validator, metric_names
from cphloc.modeling.build import build_model
from cphloc.modeling.build import check as check_model
from cphloc.modeling.classes import with_matched_classes
from cphloc.modeling.model import Model
from cphloc.recipe.recipe import Recipe
from cphloc.registry import catalogue
from cphloc.structures.annotation import Rung
from cphloc.training.finetune import Takeover, take_over
from cphloc.training.optim import build_optimizer, build_schedule, freeze
from cphloc.training.settings import Batches, Settings, Strategy


@dataclass(frozen=True)
class Preparation:
    """What a training starts from.

    Args:
        recipe: what is trained.
        pipeline: its data.
        splits: prepared cases of ``train`` and ``val``.
        model: with the weights to start from, frozen where the recipe says so.
        validator: measures it.
        settings: how to train.
    """

    recipe: Recipe
    pipeline: Pipeline
    splits: dict[str, PreparedCases]
    model: Model
    validator: Validator
    settings: Settings

    def batches(self) -> Batches:
        """The training batches; the processes of a distributed training share each."""

        def of_rank(first: int, rank: int, ranks: int) -> Iterable[Batch]:
            return self.pipeline.batches(self.recipe.train.batch // ranks, first, rank, ranks)

        return of_rank


def prepare(recipe: Recipe, strategy: Strategy = "ddp", fresh: bool = True) -> Preparation:
    """Make what a training needs; what is quick to check comes first, and `cphloc.training.check.check` shares it.

    Args:
        recipe: what to train.
        strategy: how several processes share the work.
        fresh: whether the weights are those to start from; a training that resumes brings its own.

    Raises:
        RecipeError: the model does not fit together, or its classes are not those of the data set.
        NotFoundError: missing data or entry, a pattern of parameters that matches nothing, or an unknown metric.
        DataError: cases cannot be used.
        InputError: the processes cannot share a batch, or nothing is left to train.
    """
    settings = Settings.from_recipe(recipe, strategy)
    _check_processes(recipe.train.batch, strategy)
    pipeline = Pipeline.from_recipe(recipe)
    classes = pipeline.dataset.classes
    problems = check_model(recipe, classes)
    if problems:
        raise RecipeError(problems)
    recipe = with_matched_classes(recipe, classes)
    torch.manual_seed(recipe.train.seed)
    model = build_model(recipe)
    if recipe.from_ and fresh:
        report = start_from(model, recipe.from_)
        if processes.is_first():
            print(f"from {recipe.from_}: {report}", file=sys.stderr)
    freeze_and_optimize(model, settings)
    splits = {"train": pipeline.samples.cases, "val": pipeline.cases("val")}
    rungs = [case.annotation.rung for case in splits["val"].cases]
    check_best(recipe, classes, max(filter(None, rungs), default=None), splits["val"][0].geometry.unit)
    return Preparation(recipe, pipeline, splits, model, Validator(splits["val"], classes, pipeline.patch), settings)


def start_from(model: Model, spec: str) -> Takeover:
    """Take over the weights of a zoo entry or of a run, and return which fitted."""
    from cphloc.evaluation.evaluate import open_localizer

    return take_over(model, open_localizer(spec)[0].model.state_dict(), spec)


def freeze_and_optimize(model: nn.Module, settings: Settings) -> Optimizer:
    """Freeze what the settings name, and build the optimizer of the rest and its schedule.

    Raises:
        NotFoundError: a pattern that matches no parameter, or an unknown name.
        InputError: nothing is left to train, or the warm-up does not fit the training.
    """
    freeze(model, settings.freeze)
    build_schedule(steps=settings.steps, warmup_steps=settings.warmup_steps, **settings.schedule)
    return build_optimizer(model, **settings.optimizer)


def check_best(recipe: Recipe, classes: Mapping[int, str], rung: Rung | None, unit: Literal["mm", "px"]) -> None:
    """Make sure that a validation computes the metric that chooses the best weights.

    Args:
        recipe: names the metric, or the task that is judged by it.
        classes: number 1..K -> name.
        rung: strongest annotation of the validation cases.
        unit: of their voxel sizes.

    Raises:
        NotFoundError: it does not.
    """
    best = recipe.headline
    gives = {word for block in recipe.model.heads.values() for word in catalogue.card("head", block.type).gives}
    names = metric_names(gives, rung, unit, recipe.dims, classes)
    if best in names:
        return
    known = ", ".join(sorted(name for name in names if "/" not in name)) or "none"
    if recipe.train.best is None:
        msg = (
            f"task: a model of task {recipe.task} is judged by '{best}', and the heads and validation cases give "
            f"{known}; add a head that gives it, change the task, or name another metric: train.best"
        )
        raise NotFoundError(msg)
    hint = did_you_mean(best, names) or f"this model and its validation cases give {known}"
    msg = f"train.best: no metric '{best}'; {hint}"
    raise NotFoundError(msg)


def _check_processes(batch: int, strategy: Strategy) -> None:
    ranks = processes.count()
    if batch % ranks:
        msg = f"train.batch: {batch} cannot be shared by {ranks} processes; choose a multiple of {ranks}"
        raise InputError(msg)
    if strategy == "fsdp" and ranks == 1:
        msg = "--strategy fsdp shares a model between processes, and there is one; add --devices N, or leave it out"
        raise InputError(msg)
