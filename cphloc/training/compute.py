"""Choose the precision and the memory format in which a training step of a model is fastest on this machine."""

from __future__ import annotations

import copy
import sys
import time
from dataclasses import replace
from itertools import product
from typing import Any

import torch
from torch import nn

from cphloc.distributed import processes
from cphloc.training.module import TrainingModule
from cphloc.training.settings import Compute, native_precision

SHORT_SECONDS = 0.25
"""Models with a shorter step are trained in the usual way, so that noise never decides about their last bits."""

LONG_SECONDS = 10.0
"""A step that takes longer is measured once, else the second of two is measured."""

GAIN = 1.1
"""Another way is chosen only if it is this many times faster than the usual one."""


def choose(module: TrainingModule, known: Compute | None = None) -> Compute:
    """Choose by measured steps, on a CPU; on a GPU, and with FSDP, the native precision with channels first.

    Args:
        module: the training; its model and random state are left as they are, and training begins with the batch that
            is measured.
        known: the choice of the training that is resumed, which is kept so that it goes on to the same weights, unless
            this machine does not compute in its precision.
    """
    asked = module.settings.precision
    precision = native_precision() if asked == "auto" else asked
    if known is not None and (known.precision == precision or known.precision == "32"):
        return known
    if torch.cuda.is_available() or module.settings.strategy == "fsdp":
        return Compute(precision, channels_last=False)
    usual = Compute(precision, channels_last=precision == "32")
    precisions = dict.fromkeys((precision, "32") if asked == "auto" else (precision,))
    others = [option for option in (Compute(*pair) for pair in product(precisions, (False, True))) if option != usual]
    return processes.from_first(lambda: _fastest(module, usual, others))


def _fastest(module: TrainingModule, usual: Compute, others: list[Compute]) -> Compute:
    """Measure the options on the first batch, and print their times."""
    batch = module.first_batch()
    model = copy.deepcopy(module.model).train()
    with torch.random.fork_rng(devices=()):
        seconds = {usual: _seconds(model, batch, usual)}
        if seconds[usual] < SHORT_SECONDS:
            return usual
        seconds |= {option: _seconds(model, batch, option) for option in others}
    best = min(seconds, key=seconds.__getitem__)
    chosen = best if seconds[best] * GAIN < seconds[usual] else usual
    times = "; ".join(f"{option}: {took:.2f} s" for option, took in seconds.items())
    print(f"CPU time of a training step with {times}. Chosen: {chosen}", file=sys.stderr)
    return chosen


def _seconds(model: nn.Module, batch: Any, option: Compute) -> float:
    """CPU time of a forward and a backward pass, the second one if the first was not long."""
    lay_out(model, option.channels_last)
    took = _one_step(model, batch, option.precision)
    return took if took > LONG_SECONDS else _one_step(model, batch, option.precision)


def _one_step(model: Any, batch: Any, precision: str) -> float:
    start = time.process_time()
    kind = torch.float16 if precision == "16-mixed" else torch.bfloat16
    with torch.autocast("cpu", kind, enabled=precision != "32"):
        loss = model.loss(model.outputs(batch.image), replace(batch.targets, images=batch.image))["loss"]
    if loss.requires_grad:
        loss.backward()
    model.zero_grad()
    return time.process_time() - start


def lay_out(model: nn.Module, channels_last: bool) -> None:
    """Convert convolution kernels in place to the channels-last or the contiguous memory format."""
    last = {4: torch.channels_last, 5: torch.channels_last_3d}
    for parameter in model.parameters():
        if parameter.ndim in last:
            layout = last[parameter.ndim] if channels_last else torch.contiguous_format
            parameter.data = parameter.data.contiguous(memory_format=layout)
