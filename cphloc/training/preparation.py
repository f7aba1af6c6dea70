"""Everything a training needs, made and checked before its first batch."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from cphloc.data.pipeline.loader import Batch
from cphloc.data.pipeline.pipeline import Pipeline
from cphloc.data.pipeline.prepare import PreparedCases
from cphloc.distributed import processes
from cphloc.errors import InputError, NotFoundError, did_you_mean
from cphloc.evaluation.validate import Validator
from cphloc.modeling.build import build_model
from cphloc.modeling.classes import with_matched_classes
from cphloc.modeling.model import Model
from cphloc.recipe.recipe import Recipe
from cphloc.training.finetune import take_over
from cphloc.training.module import Batches
from cphloc.training.optim import build_optimizer, build_schedule, freeze
from cphloc.training.settings import Settings, Strategy


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
    """Make what a training needs; what is quick to check comes first.

    Args:
        recipe: what to train.
        strategy: how several processes share the work.
        fresh: whether the weights are those to start from; a training that resumes brings its own.

    Raises:
        NotFoundError: missing data or entry, a pattern of parameters that matches nothing, or an unknown metric.
        DataError: cases cannot be used.
        InputError: the processes cannot share a batch, or nothing is left to train.
    """
    settings = Settings.from_recipe(recipe, strategy)
    _check_processes(recipe.train.batch, strategy)
    build_schedule(steps=settings.steps, warmup_steps=settings.warmup_steps, **settings.schedule)
    pipeline = Pipeline.from_recipe(recipe)
    recipe = with_matched_classes(recipe, pipeline.dataset.classes)
    torch.manual_seed(recipe.train.seed)
    model = build_model(recipe)
    if recipe.from_ and fresh:
        _start_from(model, recipe.from_)
    freeze(model, settings.freeze)
    build_optimizer(model, **settings.optimizer)
    splits = {"train": pipeline.samples.cases, "val": pipeline.cases("val")}
    validator = Validator(splits["val"], pipeline.dataset.classes, pipeline.patch)
    _check_best(settings.best, validator.metric_names(model, len(recipe.channels)))
    return Preparation(recipe, pipeline, splits, model, validator, settings)


def _check_processes(batch: int, strategy: Strategy) -> None:
    ranks = processes.count()
    if batch % ranks:
        msg = f"train.batch: {batch} cannot be shared by {ranks} processes; choose a multiple of {ranks}"
        raise InputError(msg)
    if strategy == "fsdp" and ranks == 1:
        msg = "--strategy fsdp shares a model between processes, and there is one; add --devices N, or leave it out"
        raise InputError(msg)


def _check_best(best: str, names: Iterable[str]) -> None:
    names = sorted(names)
    if best not in names:
        hint = did_you_mean(best, names) or f"this model and its validation cases give {', '.join(names) or 'none'}"
        msg = f"train.best: no metric '{best}'; {hint}"
        raise NotFoundError(msg)


def _start_from(model: Model, spec: str) -> None:
    """Take over the weights of a zoo entry or of a run, and say what was taken."""
    from cphloc.evaluation.evaluate import open_localizer

    report = take_over(model, open_localizer(spec)[0].model.state_dict(), spec)
    if processes.is_first():
        print(f"from {spec}: {report}", file=sys.stderr)
