"""Build optimizers, parameter groups and learning rate schedules by registry name; freeze parameters.

Only optimizers with a registry card can be used, so that a recipe can never name an import path.
"""

from __future__ import annotations

import fnmatch
import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn
from torch.optim import Optimizer

from cphloc.errors import InputError, NotFoundError, did_you_mean
from cphloc.registry import catalogue
from cphloc.registry.contract import call, call_for_number, checked_class, construct

Schedule = Callable[[float], float]
"""Learning rate factor at a step in [0, steps]; the step may be fractional under a time budget."""

_NOT_FROM_RECIPES = {"self", "params", "foreach", "capturable", "differentiable", "fused", "maximize"}


def freeze(model: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Set ``requires_grad`` to false for every parameter whose dotted name matches one of ``patterns``.

    Args:
        model: the model, changed in place.
        patterns: patterns of parameter names, in which ``*`` matches any text.

    Returns:
        the names of the frozen parameters.

    Raises:
        NotFoundError: a pattern matches no parameter.
        InputError: the patterns match every parameter.

    >>> freeze(nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1)), ["0.*"])
    ['0.weight', '0.bias']
    """
    names = [name for name, _ in model.named_parameters()]
    frozen = {name for pattern in patterns for name in matching(pattern, names, "freeze")}
    if len(frozen) == len(names):
        msg = f"freeze: {list(patterns)} matches every parameter; leave at least one to train"
        raise InputError(msg)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in frozen and parameter.requires_grad)
    return [name for name in names if name in frozen]


def train_mode(model: nn.Module) -> None:
    """Set ``model`` to training mode, and submodules without trainable parameters to evaluation mode.

    So the running statistics of frozen normalization layers do not change either.
    """
    model.train()
    for module in model.modules():
        parameters = list(module.parameters())
        if parameters and not any(p.requires_grad for p in parameters):
            module.eval()


def matching(pattern: str, names: Sequence[str], where: str) -> list[str]:
    """Return the parameter ``names`` that match ``pattern``.

    Args:
        pattern: shell-style pattern, in which ``*`` matches any text.
        names: dotted parameter names.
        where: recipe key of the pattern, for the error message.

    Raises:
        NotFoundError: no name matches.
    """
    found = fnmatch.filter(names, pattern)
    if not found:
        first = sorted({name.split(".")[0] for name in names})
        hint = did_you_mean(pattern, names) or f"the model's parts are {', '.join(first)}"
        msg = f"{where}: pattern '{pattern}' matches no parameter; {hint}"
        raise NotFoundError(msg)
    return found


def build_optimizer(model: nn.Module, type: str, lr: float, **args: Any) -> Optimizer:
    """Build an optimizer over the trainable parameters of ``model``.

    Weight decay is not applied to parameters of at most one axis (biases and the weights of normalization layers).
    Each parameter group has a ``base_lr``, which `set_lr` multiplies by the factor of the schedule.

    Args:
        model: the model; frozen parameters are left out.
        type: registry name of the optimizer: a class of `torch.optim`, or one from a plug-in.
        lr: learning rate.
        args: arguments of the optimizer, and ``lr_scale``: pattern of parameter names -> factor on ``lr``; the last
            matching pattern counts (``{"backbone.*": 0.1}`` trains the backbone at a tenth of ``lr``).

    Raises:
        NotFoundError: unknown optimizer or argument, or a pattern of ``lr_scale`` matches no parameter.
    """
    card = catalogue.card("optimizer", type)
    chosen = checked_class("optimizer", type) if card.import_ else getattr(torch.optim, type)
    scales = args.pop("lr_scale", {})
    parameters = inspect.signature(chosen).parameters
    _check_arguments(args, set(parameters) - _NOT_FROM_RECIPES, "optimizer", type)
    decay = args.pop("weight_decay", parameters["weight_decay"].default if "weight_decay" in parameters else 0.0)
    args = {name: tuple(value) if isinstance(value, list) else value for name, value in args.items()}
    return call(card, chosen, _groups(model, lr, decay, scales), lr=lr, **args)


def build_schedule(type: str, steps: int, warmup_steps: int = 0, **args: Any) -> Schedule:
    """Build a learning rate schedule by its registry name; see `cphloc.training.schedules`.

    The learning rate rises linearly during the warm-up; the schedule then covers the remaining steps.

    Args:
        type: registry name of the schedule.
        steps: optimizer steps of the whole training, including the warm-up.
        warmup_steps: steps of the linear warm-up.
        args: arguments of the schedule.

    Raises:
        NotFoundError: unknown schedule or argument.
        InputError: the warm-up is not shorter than the training, or is combined with ``one_cycle``.

    >>> poly = build_schedule("poly", steps=100, warmup_steps=10)
    >>> poly(0), poly(9), round(poly(55), 4), poly(100)
    (0.1, 1.0, 0.5359, 0.0)
    """
    card = catalogue.card("schedule", type)
    _check_arguments(args, {a.name for a in catalogue.arguments(card)}, "schedule", type)
    curve = construct("schedule", type, args)
    if warmup_steps and type == "one_cycle":
        msg = "train.warmup_steps: one_cycle has its own warm-up; set warmup_steps to 0 or one_cycle's 'rise'"
        raise InputError(msg)
    if not 0 <= warmup_steps < steps:
        msg = f"train.warmup_steps: {warmup_steps} is not below train.steps = {steps}; shorten the warm-up"
        raise InputError(msg)
    return partial(_warmed, partial(call_for_number, card, curve), steps, warmup_steps)


def set_lr(optimizer: Optimizer, factor: float) -> None:
    """Set each group's learning rate to ``factor`` times its ``base_lr``."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor


@runtime_checkable
class Scheduled(Protocol):
    """Protocol of components that change over a training: their ``progress`` is set by `set_progress`."""

    progress: float


def set_progress(model: nn.Module, share: float) -> None:
    """Pass the training progress to every scheduled component, for example a loss whose weight changes over time.

    Args:
        model: every module in it that has an attribute ``progress`` gets the new value.
        share: fraction of the training that is done, in [0, 1].

    >>> loss = nn.Module()
    >>> loss.progress = 0.0
    >>> set_progress(nn.Sequential(loss), 0.5)
    >>> loss.progress
    0.5
    """
    for module in model.modules():
        if isinstance(module, Scheduled):
            module.progress = share


def _check_arguments(args: Mapping[str, Any], allowed: set[str], kind: str, type: str) -> None:
    for name in sorted(set(args) - allowed):
        hint = did_you_mean(name, allowed) or f"it takes {', '.join(sorted(allowed)) or 'none'}"
        msg = f"train.{kind}.{name}: {type} takes no argument '{name}'; {hint}"
        raise NotFoundError(msg)


def _groups(model: nn.Module, lr: float, weight_decay: float, scales: Mapping[str, float]) -> list[dict[str, Any]]:
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    scale = dict.fromkeys(trainable, 1.0)
    for pattern, factor in scales.items():
        scale.update(dict.fromkeys(matching(pattern, list(trainable), "train.optimizer.lr_scale"), float(factor)))
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in trainable.items():
        decay = weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((scale[name], decay), []).append(parameter)
    return [
        {"params": parameters, "lr": lr * factor, "base_lr": lr * factor, "weight_decay": decay}
        for (factor, decay), parameters in groups.items()
    ]


def _warmed(curve: Callable[[float, int], float], steps: int, warmup_steps: int, step: float) -> float:
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return curve(min(step, steps) - warmup_steps, steps - warmup_steps)
