"""Train one network on the probabilities of a teacher, such as the ensemble of a cross-validation.

Hinton, Vinyals & Dean 2015, Distilling the knowledge in a neural network, arXiv:1503.02531.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from cphloc.data.dataset import Dataset
from cphloc.errors import DataError, InputError
from cphloc.evaluation.evaluate import open_localizer
from cphloc.evaluation.unseen import data_of
from cphloc.inference.localizer import Localizer
from cphloc.modeling.model import Model
from cphloc.recipe.recipe import Recipe, load
from cphloc.registry import catalogue
from cphloc.tracking.run import Run
from cphloc.training.finetune import preparation_differences
from cphloc.zoo.entries import Listing

SOFT = "soft"
"""Name under which the losses of all heads are logged that compare probabilities with those of a teacher."""

LEAST = 1e-6
"""Probabilities are clamped to at least this value before their logarithm is taken."""


class Teacher:
    """A trained model whose probabilities for each training patch are a second target of every head.

    Args:
        localizer: the model.
        weight: weight of the divergence from its probabilities, beside the losses of the annotations.
    """

    def __init__(self, localizer: Localizer, weight: float) -> None:
        self.localizer = localizer
        self.weight = weight

    def losses(self, model: Model, outputs: Mapping[str, Any], image: Tensor) -> dict[str, Tensor]:
        """Compute how far the probabilities of a model are from those of the teacher, as ``soft/<head>``.

        Args:
            model: the model that is trained.
            outputs: its raw outputs for ``image``.
            image: ``(N, C, *S)`` preprocessed training patches.
        """
        size = tuple(image.shape[2:])
        taught = self.localizer.model.to(image.device).eval()
        with torch.no_grad():
            targets = taught.decode(taught.outputs(image), size)
        found = {}
        for name, prediction in model.decode(outputs, size).items():
            parts = []
            if (probabilities := prediction.mask_probabilities) is not None:
                parts.append(divergence(probabilities, _given(targets[name].mask_probabilities, name)))
            if (present := prediction.label_probabilities) is not None:
                wanted = _given(targets[name].label_probabilities, name)
                pairs = (torch.stack([p.float(), 1 - p.float()], dim=1) for p in (present, wanted))
                parts.append(divergence(*pairs))
            if parts:
                found[f"{SOFT}/{name}"] = torch.stack(parts).sum()
        return found


def divergence(probabilities: Tensor, wanted: Tensor) -> Tensor:
    """Compute the mean Kullback-Leibler divergence of probabilities ``(N, K, ...)`` from those that are wanted."""
    ours, theirs = (p.float().clamp(min=LEAST) for p in (probabilities, wanted))
    return (theirs * (theirs.log() - ours.log())).sum(dim=1).mean()


def _given(probabilities: Tensor | None, head: str) -> Tensor:
    if probabilities is None:
        msg = f"train.teacher: head '{head}' of the teacher gives no probabilities; use heads like the teacher's"
        raise InputError(msg)
    return probabilities


def open_teacher(recipe: Recipe) -> tuple[Localizer, Run | None]:
    """Load the teacher of a recipe and check that it predicts the same from the same input.

    Args:
        recipe: the recipe; ``train.teacher`` is an entry, a run, or a cross-validation (its ensemble).

    Raises:
        NotFoundError: there is no such run or entry.
        InputError: its heads, classes, channels or preprocessing are others than those of the recipe, or it has no head
            with probabilities.
    """
    localizer, run = open_localizer(str(recipe.train.teacher))
    other = localizer.recipe
    pairs = {
        "dims": (recipe.dims, other.dims),
        "channels": (list(recipe.channels), list(other.channels)),
        "heads": (sorted(recipe.model.heads), sorted(other.model.heads)),
    }
    wrong = [f"{what} {mine}, but the teacher has {its}" for what, (mine, its) in pairs.items() if mine != its]
    wrong += preparation_differences(recipe, other)
    gives = {word for block in recipe.model.heads.values() for word in catalogue.card("head", block.type).gives}
    if not gives & {"mask", "labels"}:
        wrong.append("no head gives probabilities of a mask or of labels, which alone can be learned")
    if wrong:
        msg = f"train.teacher: '{recipe.train.teacher}' does not fit this recipe: {'; '.join(wrong)}; make them equal"
        raise InputError(msg)
    return localizer, run


def as_the_teacher(recipe: Recipe, teacher: Localizer) -> Recipe:
    """Return the recipe with the intensity constants of the teacher, so that both see the same image."""
    plain = recipe.to_plain()
    plain["data"]["intensity"] = teacher.recipe.to_plain()["data"]["intensity"]
    return load(plain)


def check_same_classes(recipe: Recipe, teacher: Localizer, model: Model) -> None:
    """Check that a model has the classes of its teacher, in the same order.

    Raises:
        InputError: it has others.
    """
    if list(model.classes.values()) != list(teacher.classes.values()):
        mine, its = list(model.classes.values()), list(teacher.classes.values())
        msg = f"train.teacher: '{recipe.train.teacher}' has the classes {its}, this recipe {mine}; make them equal"
        raise InputError(msg)


def check_test_unseen(teacher: Run | Listing | None, dataset: Dataset) -> None:
    """Check that a teacher has not seen the test cases of its student.

    Args:
        teacher: run or entry of the teacher; ``None`` for a model of neither.
        dataset: data set of the student.

    Raises:
        DataError: it has; the message lists some.
    """
    seen = data_of(teacher)
    if seen is not None and (leaks := seen.leaks(dataset.cases("test"), "test", own=isinstance(teacher, Run))):
        msg = f"train.teacher: {'; '.join(leaks)}; choose a teacher that has not seen the test cases"
        raise DataError(msg)
