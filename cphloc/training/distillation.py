"""Train a network on the probabilities of a teacher: another model, or the moving average of its own weights.

Hinton, Vinyals & Dean 2015, Distilling the knowledge in a neural network, arXiv:1503.02531; Tarvainen & Valpola 2017,
Mean teachers, arXiv:1703.01780.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from cphloc.data.dataset import Dataset
from cphloc.errors import DataError, InputError
from cphloc.evaluation.evaluate import open_localizer
from cphloc.evaluation.unseen import data_of
from cphloc.inference.localizer import Localizer
from cphloc.modeling.model import Model
from cphloc.ops.targets import Targets
from cphloc.recipe.fields import OWN_AVERAGE, Train
from cphloc.recipe.recipe import Recipe, load
from cphloc.registry import catalogue
from cphloc.structures.annotation import IGNORE
from cphloc.tracking.run import Run
from cphloc.training.finetune import preparation_differences
from cphloc.zoo.entries import Listing

SOFT = "soft"
"""Name under which the losses of all heads are logged that compare probabilities with those of a teacher."""

LEAST = 1e-6
"""Probabilities are clamped to at least this value before their logarithm is taken."""

OWN_SURE = 0.9
"""Default of ``train.teacher_sure`` for the network's own average, whose errors would otherwise confirm themselves."""

OWN_BEGINS = 0.3
"""Share of the training after which the network's own average teaches, because it has to learn first."""


class Teacher:
    """A model whose probabilities for each training patch are a second target of every head.

    A trained model teaches all cases its probabilities, from the start. The moving average of the weights that are
    trained teaches only what is not annotated, after `OWN_BEGINS` of the training: its likeliest class, to a network
    that sees the same image `perturbed` (Sohn et al. 2020, FixMatch, arXiv:2001.07685).

    Args:
        model: a trained model, or ``None`` for the moving average.
        weight: weight of the divergence from its probabilities, beside the losses of the annotations.
        sure: voxels and labels whose likeliest class has a lower probability are not taught.
    """

    def __init__(self, model: nn.Module | None, weight: float, sure: float = 0.0) -> None:
        self.model = model
        self.weight = weight
        self.sure = sure
        self.own = model is None

    @classmethod
    def from_recipe(cls, train: Train, taught: Localizer | None) -> Teacher:
        """Make the teacher of a recipe.

        Args:
            train: settings of the training.
            taught: the entry or run that ``train.teacher`` names; ``None`` for the network's own average.
        """
        sure = train.teacher_sure
        if sure is None:
            sure = OWN_SURE if taught is None else 0.0
        return cls(taught.model if taught else None, train.teacher_weight, sure)

    def describe(self, name: str) -> str:
        """Describe in one line what it teaches, for the log.

        Args:
            name: ``train.teacher`` of the recipe.
        """
        what = f"the network's own average teaches cases without annotation after {OWN_BEGINS:.0%} of the training"
        what = what if self.own else f"{name} teaches all cases"
        return f"teacher: {what}" + (f", where its probability is at least {self.sure:g}" if self.sure else "")

    def follow(self, model: Model, average: Mapping[str, Tensor]) -> None:
        """Take over the average of the weights of the model that is trained, if that is the teacher.

        Args:
            model: the model that is trained.
            average: the average of its weights, a state dict.
        """
        if self.own:
            self.model = self.model or deepcopy(model).requires_grad_(False)
            self.model.load_state_dict(average)

    def views(self, image: Tensor) -> Tensor:
        """Return what the model that is trained sees of ``image`` where it learns from the teacher."""
        return perturbed(image) if self.own else image

    def losses(
        self, model: Model, outputs: Mapping[str, Any], image: Tensor, targets: Targets | None = None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Compute how far the probabilities of a model are from those of the teacher.

        Args:
            model: the model that is trained.
            outputs: its raw outputs for `views` of ``image``.
            image: ``(N, C, *S)`` preprocessed training patches.
            targets: their annotations; needed by the network's own average.

        Returns:
            the losses ``soft/<head>``, and the share of voxels and labels in [0, 1] that were taught,
            ``taught/<head>``.
        """
        assert self.model is not None
        size = tuple(image.shape[2:])
        teaching: Any = self.model.to(image.device).eval()
        with torch.no_grad():
            wanted = teaching.decode(teaching.outputs(image), size)
        losses, shares = {}, {}
        for name, prediction in model.decode(outputs, size).items():
            pairs = []
            known = self._known(model.targets_of(name, targets)) if self.own and targets is not None else (None, None)
            if (mask := prediction.mask_probabilities) is not None:
                pairs.append((mask, _given(wanted[name].mask_probabilities, name), known[0]))
            if (labels := prediction.label_probabilities) is not None:
                both = (torch.stack([p, 1 - p], 1) for p in (labels, _given(wanted[name].label_probabilities, name)))
                pairs.append((*both, known[1]))
            taught = [self._taught(theirs, annotated) for _, theirs, annotated in pairs]
            if pairs:
                wish = _likeliest if self.own else torch.Tensor.float
                parts = [divergence(p, wish(theirs), on) for (p, theirs, _), on in zip(pairs, taught, strict=True)]
                losses[f"{SOFT}/{name}"] = torch.stack(parts).sum()
                shares[f"taught/{name}"] = torch.stack([on.float().mean() for on in taught]).mean()
        return losses, shares

    def _known(self, targets: Targets) -> tuple[Tensor, Tensor]:
        """Which voxels ``(N, *S)`` and labels ``(N, K)`` are annotated."""
        drawn = targets.has_mask.view(-1, *(1,) * (targets.masks.dim() - 1)) & (targets.masks != IGNORE)
        return drawn, ~targets.labels.isnan()

    def _taught(self, wanted: Tensor, annotated: Tensor | None) -> Tensor:
        """Which voxels or labels are taught: those that the teacher is sure of and that are not annotated."""
        sure = wanted.amax(dim=1) >= self.sure
        return sure if annotated is None else sure & ~annotated


def divergence(probabilities: Tensor, wanted: Tensor, taught: Tensor | None = None) -> Tensor:
    """Compute the mean Kullback-Leibler divergence of probabilities ``(N, K, ...)`` from those that are wanted.

    Args:
        probabilities: probabilities of the classes along axis 1.
        wanted: probabilities of the teacher.
        taught: ``(N, ...)`` bool, where they count; elsewhere the divergence is 0. By default everywhere.
    """
    ours, theirs = (p.float().clamp(min=LEAST) for p in (probabilities, wanted))
    found = (theirs * (theirs.log() - ours.log())).sum(dim=1)
    return (found if taught is None else found * taught).mean()


def perturbed(image: Tensor) -> Tensor:
    """Change contrast and brightness of each channel and add noise, at random.

    The contrast is scaled by 0.7 to 1.3, the brightness shifted by up to 0.3, and noise of a standard deviation of up
    to 0.3 is added, in standard deviations of the image.

    Args:
        image: ``(N, C, *S)``.
    """
    each = (*image.shape[:2], *(1,) * (image.dim() - 2))
    axes = tuple(range(2, image.dim()))
    mean, std = image.mean(axes, keepdim=True), image.std(axes, keepdim=True)
    contrast, shift, noise = (torch.rand(each).to(image) for _ in range(3))
    return (
        mean
        + (image - mean) * (0.7 + 0.6 * contrast)
        + std * (0.6 * shift - 0.3 + 0.3 * noise * torch.randn(image.shape).to(image))
    )


def _likeliest(probabilities: Tensor) -> Tensor:
    """Return 1 for the likeliest class along axis 1 and 0 for the others."""
    return torch.zeros_like(probabilities.float()).scatter_(1, probabilities.argmax(1, keepdim=True), 1.0)


def _given(probabilities: Tensor | None, head: str) -> Tensor:
    if probabilities is None:
        msg = f"train.teacher: head '{head}' of the teacher gives no probabilities; use heads like the teacher's"
        raise InputError(msg)
    return probabilities


def check_own_average(recipe: Recipe, strategy: str) -> None:
    """Check that a network can be taught by the moving average of its own weights.

    Raises:
        InputError: there is no average, or no process has the whole of it.
    """
    if recipe.train.ema is None:
        msg = f"train.teacher: {OWN_AVERAGE} is the moving average of the weights; set train.ema as well, such as 0.99"
        raise InputError(msg)
    if strategy == "fsdp":
        msg = f"train.teacher: {OWN_AVERAGE} does not work with --strategy fsdp, which shards the average; use ddp"
        raise InputError(msg)
    _check_probabilities(recipe)


def _check_probabilities(recipe: Recipe) -> None:
    gives = {word for block in recipe.model.heads.values() for word in catalogue.card("head", block.type).gives}
    if not gives & {"mask", "labels"}:
        msg = "train.teacher: no head gives probabilities of a mask or of labels, which can be taught; set it to null"
        raise InputError(msg)


def open_teacher(recipe: Recipe) -> tuple[Localizer, Run | None]:
    """Load the teacher of a recipe and check that it predicts the same from the same input.

    Args:
        recipe: the recipe; ``train.teacher`` is an entry, a run, or a cross-validation (its ensemble).

    Raises:
        NotFoundError: there is no such run or entry.
        InputError: its heads, classes, channels or preprocessing are others than those of the recipe, or it has no head
            with probabilities.
    """
    _check_probabilities(recipe)
    localizer, run = open_localizer(str(recipe.train.teacher))
    other = localizer.recipe
    pairs = {
        "dims": (recipe.dims, other.dims),
        "channels": (list(recipe.channels), list(other.channels)),
        "heads": (sorted(recipe.model.heads), sorted(other.model.heads)),
    }
    wrong = [f"{what} {mine}, but the teacher has {its}" for what, (mine, its) in pairs.items() if mine != its]
    wrong += preparation_differences(recipe, other)
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
