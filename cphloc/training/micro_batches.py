"""Micro-batches of an optimizer step, with the number of cases that each loss is a mean of.

A head's loss is a mean over the cases that have its type of annotation, or over the anchors that match its boxes.
Micro-batches, and processes, have different numbers of these; their losses are weighted by these numbers, so that an
accumulated batch makes the same step as the whole batch at once. Of heads whose matches depend on their predictions
(``yolox``) or are drawn at random (``faster_rcnn``), that is so on average only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from torch import Tensor, nn

from cphloc.ops.targets import Targets

Cases = dict[str, float]
"""Number of cases by loss, ``head/loss``, or by ``head`` for all other losses of a head.

A loss without any, such as that of the background of pictures without objects, is divided by 1.
"""


@dataclass(frozen=True)
class MicroBatch:
    """A micro-batch of an optimizer step.

    Args:
        image: ``(N, C, *S)``.
        targets: annotations of the N images.
        cases: number of cases in this micro-batch that each loss is a mean of.
        in_step: the same for all micro-batches of the step in this process.
    """

    image: Tensor
    targets: Targets
    cases: Cases
    in_step: Cases


@dataclass(frozen=True)
class Grouped:
    """Iterable over the micro-batches of consecutive optimizer steps; those of one step are read together.

    Args:
        batches: endless iterable over batches with ``image`` and ``targets``.
        size: micro-batches per optimizer step.
        count: returns the number of cases of each loss for the targets of a batch.
    """

    batches: Iterable[Any]
    size: int
    count: Callable[[Targets], Cases]

    def __iter__(self) -> Iterator[MicroBatch]:
        batches = iter(self.batches)
        while group := list(islice(batches, self.size)):
            cases = [self.count(batch.targets) for batch in group]
            in_step = {name: sum(of[name] for of in cases) for name in cases[0]}
            for batch, own in zip(group, cases, strict=True):
                yield MicroBatch(batch.image, batch.targets, own, in_step)


def cases_of(model: nn.Module, rungs: Mapping[str, str], targets: Targets) -> Cases:
    """Count the cases that each loss of a model is a mean of.

    Args:
        model: a `cphloc.modeling.model.Model`. A head with losses over different cases has a method
            ``loss_cases(targets)`` with their numbers, tensors by name of the loss.
        rungs: head -> type of annotation (``mask``, ``boxes`` or ``label``) that its losses need.
        targets: annotations of a batch.
    """
    of_head = getattr(model, "targets_of", lambda _, all_classes: all_classes)
    cases = {head: float(_known(of_head(head, targets), rung).sum()) for head, rung in rungs.items()}
    for name, head in getattr(model, "heads", {}).items():
        if hasattr(head, "loss_cases"):
            numbers = head.loss_cases(of_head(name, targets))
            cases |= {f"{name}/{loss}": float(number) for loss, number in numbers.items()}
    seeded = getattr(model, "seed_cases", lambda _: {})(targets)
    return cases | {f"{name}/seeds": float(number) for name, number in seeded.items()}


def _known(targets: Targets, rung: str) -> Tensor:
    """Cases with a mask or boxes, or known labels."""
    if rung == "label":
        return ~targets.labels.isnan()
    return targets.has_mask if rung == "mask" else targets.has_boxes


def number_for(loss: str, cases: Mapping[str, float]) -> float | None:
    """Return the number of cases of a loss ``head/name``; ``None`` where it is not known.

    >>> number_for("mask/dice", {"mask": 3.0}), number_for("loss", {"mask": 3.0})
    (3.0, None)
    """
    return cases.get(loss, cases.get(loss.partition("/")[0]))
