"""Every loss is finite, with finite gradients, for every argument value that its signature accepts."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any, Literal, get_args, get_origin

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from cphloc.config.signature import arguments_of
from cphloc.ops.attention import log_softmax
from cphloc.registry import catalogue

NUMBERS = (0, 1e-30, 1e-3, 0.3, 1, 2, 7, 1e4, 1e300)
COMBINATIONS = 25
"""Sets of argument values that each loss is tried with; single values first, then random combinations."""

Case = Callable[[int], tuple[Any, ...]]


def accepted(annotation: Any) -> list[Any]:
    """Values to try of an argument: those of a list of candidates that the check of a recipe lets through."""
    members = [
        inner for part in (annotation, *get_args(annotation)) if get_origin(part) is Literal for inner in get_args(part)
    ]
    lists = [[a, b, c][:n] for n in (2, 3) for a in (0, 1, 1e4) for b in (0, 2) for c in (1,)]
    candidates = [None, True, False, *members, *NUMBERS, *lists]
    return [value for value in candidates if accepts(annotation, value)]


def accepts(annotation: Any, value: Any) -> bool:
    try:
        TypeAdapter(annotation).validate_python(value, strict=True)
    except ValidationError:
        return False
    return True


def settings(card: str, dims: int) -> Iterator[dict[str, Any]]:
    """Argument sets of a loss: the defaults, every accepted value by itself, and combinations at random."""
    choices = {}
    for argument in arguments_of(catalogue.card("loss", card).import_):
        values = accepted(argument.annotation)
        length = 3 if argument.name == "class_weights" else dims
        choices[argument.name] = [v for v in values if not isinstance(v, list) or len(v) == length]
        assert choices[argument.name], argument
    yield {}
    yield from ({name: value} for name, values in choices.items() for value in values)
    draw = random.Random(0)
    yield from (
        {name: draw.choice(values) for name, values in choices.items()} for _ in range(COMBINATIONS * bool(choices))
    )


def masks(dims: int) -> Iterator[tuple[str, tuple[Tensor, Tensor]]]:
    """Logits ``(N, 3, *S)`` and class masks."""
    torch.manual_seed(0)
    size = (3, 4, 2)[:dims]
    target = torch.randint(0, 3, (2, *size))
    logits, certain = torch.randn(2, 3, *size), 2e4 * torch.eye(3)[target].movedim(-1, 1) - 1e4
    yield "random", (logits, target)
    yield "certain and right", (certain, target)
    yield "certain and wrong", (-certain, target)
    yield "nearly right", (certain / 600, target)
    yield "background alone", (logits, torch.zeros_like(target))
    yield "background alone, certain", (2e4 * torch.eye(3)[0].view(1, 3, *(1,) * dims).expand_as(logits), 0 * target)
    yield "one class alone", (certain, torch.ones_like(target))
    yield "not annotated", (logits, torch.full_like(target, 255))
    yield "half annotated", (certain, target.masked_fill(target == 1, 255))
    yield "one voxel", (torch.randn(1, 3, *(1,) * dims), torch.ones(1, *(1,) * dims, dtype=torch.long))
    yield "no case", (logits[:0], target[:0])


def scores(dims: int) -> Iterator[tuple[str, tuple[Tensor, Tensor]]]:
    """Logits and targets ``(n, K)`` in [0, 1]."""
    logits = torch.tensor([[-1e4, -17.0, -0.1, 0.0, 0.1, 17.0, 1e4]])
    for target in (0.0, 0.5, 1.0):
        yield f"target {target}", (logits, torch.full_like(logits, target))
    yield "no element", (logits[:0], logits[:0])


def boxes(dims: int) -> Iterator[tuple[str, tuple[Tensor, Tensor]]]:
    """Predicted and true boxes, or deltas, ``(n, 2 D)``."""
    low = torch.zeros(1, dims)
    box = torch.cat([low, low + 4], 1)
    yield "the same", (box, box)
    yield "apart", (box + 9, box)
    yield "far apart", (box + 1e4, box)
    yield "touching", (box + torch.eye(2 * dims)[[0]] * 4 + torch.eye(2 * dims)[[dims]] * 4, box)
    yield "without volume", (0 * box, box)
    yield "both without volume", (0 * box, 0 * box)
    yield "huge", (1e4 * box, box)
    yield "tiny", (1e-8 * box, box)
    yield "no box", (box[:0], box[:0])


def attention(dims: int) -> Iterator[tuple[str, tuple[Tensor, Tensor, list[Tensor]]]]:
    """Log attention ``(N, *S')``, region, and boxes one by one."""
    torch.manual_seed(0)
    size = (3, 3, 4)[-dims:]
    plain = log_softmax(torch.randn(2, *size))
    peaked = log_softmax(2e4 * torch.eye(plain[0].numel())[:2].view(2, *size) - 1e4)
    half = torch.zeros(2, *size)
    half[..., :2] = 1
    for name, log_map in (("random", plain), ("peaked", peaked), ("exactly 0 and 1", peaked.exp().log())):
        for where, region in (
            ("half", half),
            ("other half", 1 - half),
            ("everywhere", 0 * half + 1),
            ("nowhere", 0 * half),
        ):
            yield f"{name}, {where}", (log_map, region, list(region[:, None]))
    yield "faint", (plain, 1e-30 * half, [region[None] for region in 1e-30 * half])
    yield "no boxes", (plain, half, [half[:0], half[:0]])
    one = torch.zeros(1, *(1,) * dims)
    yield "one cell", (one, one + 1, [one + 1])
    yield "no case", (plain[:0], half[:0], [])


INPUTS = {"mask": masks, "scores": scores, "boxes": boxes, "attention": attention}
CARDS = [(card, dims) for card, found in catalogue.cards("loss").items() for dims in found.dims]


@pytest.mark.parametrize(("card", "dims"), CARDS, ids=[f"{card}-{dims}d" for card, dims in CARDS])
def test_value_and_gradient_are_finite_for_every_accepted_argument_and_input(card, dims):
    made = catalogue.resolve("loss", card)
    (takes,) = catalogue.card("loss", card).takes
    cases = list(INPUTS[takes](dims))
    half = [({}, torch.bfloat16), ({}, torch.float16)]
    failures = []
    for arguments, dtype in [*((arguments, torch.float32) for arguments in settings(card, dims)), *half]:
        loss = made(**arguments)
        for name, (predicted, *truth) in cases:
            leaf = predicted.detach().to(dtype, copy=True).requires_grad_()
            values = loss(leaf, *truth)
            values.sum().backward()
            if not (values.isfinite().all() and leaf.grad.isfinite().all() and values.dtype == torch.float32):
                failures.append(f"{arguments}, {dtype}, {name}: {values.tolist()}")
    assert failures == []
