"""Settings of a training: everything but the model and the data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch

from cphloc.distributed.machine import cpu_computes_bfloat16
from cphloc.registry import catalogue
from cphloc.registry.metrics import quality

if TYPE_CHECKING:
    from cphloc.recipe.recipe import Recipe

FixedPrecision = Literal["32", "bf16-mixed", "16-mixed"]
"""Lightning's names of floating-point precisions."""

Precision = FixedPrecision | Literal["auto"]
"""A precision, or ``auto`` for `native_precision`."""

Strategy = Literal["ddp", "fsdp"]
"""Distributed data parallel, or fully sharded data parallel."""

Batches = Callable[[int, int, int], Iterable[Any]]
"""``batches(first, rank, ranks)``: endless iterable over the training batches of one of ``ranks`` processes, starting
at batch number ``first``."""


@dataclass(frozen=True)
class Settings:
    """Settings of a training; most fields are those of ``train`` in a recipe.

    Args:
        steps: optimizer steps of the whole training.
        optimizer: ``type``, ``lr`` and further arguments of `optim.build_optimizer`.
        schedule: ``type`` and further arguments of `optim.build_schedule`.
        warmup_steps: steps over which the learning rate rises linearly.
        precision: floating-point precision; ``auto`` is `native_precision`.
        accumulate: micro-batches whose gradients are accumulated in an optimizer step.
        clip_norm: maximum norm of the gradient; ``None`` for no clipping.
        ema: decay of the exponential moving average of the weights; ``None`` for none. If there is an average, it is
            validated and published instead of the weights.
        swa: share of the training, from its end, over which the weights are averaged; ``None`` for none; not with
            ``ema``.
        seed: seed of all random generators.
        validate_every: steps between validations; each also writes a checkpoint.
        best: validation metric that selects the published weights.
        keep_last: whether the weights of the last validation are kept instead of the best ones, so that the validation
            cases have no influence on them; for a fold that is held out.
        minutes: time budget, including the last validation; the schedule is scaled to end with it.
        patience: validations without improvement before early stopping.
        freeze: patterns of the names of parameters that are not trained.
        strategy: ``ddp`` keeps the whole model in each process, ``fsdp`` shards it across processes.
        rungs: head -> type of annotation (``mask``, ``boxes`` or ``label``) that a case needs to contribute to the
            losses of the head.
    """

    steps: int
    optimizer: Mapping[str, Any] = field(default_factory=lambda: {"type": "AdamW", "lr": 1e-3})
    schedule: Mapping[str, Any] = field(default_factory=lambda: {"type": "poly"})
    warmup_steps: int = 0
    precision: Precision = "auto"
    accumulate: int = 1
    clip_norm: float | None = 12.0
    ema: float | None = None
    swa: float | None = None
    seed: int = 0
    validate_every: int = 500
    best: str = "dice"
    keep_last: bool = False
    minutes: float | None = None
    patience: int | None = None
    freeze: Sequence[str] = ()
    strategy: Strategy = "ddp"
    rungs: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_recipe(cls, recipe: Recipe, strategy: Strategy = "ddp") -> Settings:
        """Convert the fields ``train`` and ``freeze`` of a recipe.

        Args:
            recipe: a complete recipe.
            strategy: how several processes share the work, which a recipe does not state.
        """
        train = recipe.train
        rungs = {name: catalogue.card("head", block.type).rung for name, block in recipe.model.heads.items()}
        return cls(
            steps=train.steps,
            optimizer=train.optimizer.model_dump(),
            schedule={"type": train.schedule} if isinstance(train.schedule, str) else train.schedule.model_dump(),
            warmup_steps=train.warmup_steps,
            precision=train.precision,
            accumulate=train.accumulate,
            clip_norm=train.clip_norm,
            ema=train.ema,
            swa=train.swa,
            seed=train.seed,
            validate_every=train.validate_every or -(-train.steps // 10),
            best=recipe.headline,
            keep_last=recipe.fold is not None,
            minutes=train.minutes,
            patience=train.patience,
            freeze=recipe.freeze,
            strategy=strategy,
            rungs={name: rung for name, rung in rungs.items() if rung in ("mask", "boxes", "label")},
        )

    def better(self, value: float, than: float | None) -> bool:
        """Return whether ``value`` of the metric ``best`` is better than ``than``.

        Any value is better than ``None`` or NaN; otherwise NaN is never better.

        >>> Settings(steps=1, best="dice").better(0.8, than=0.7), Settings(steps=1, best="hd95_mm").better(8, than=7)
        (True, False)
        """
        if than is None or than != than:
            return True
        return quality(self.best, value) > quality(self.best, than)


@dataclass(frozen=True)
class Compute:
    """How the steps of a training are computed.

    Args:
        precision: Lightning's name of a floating-point precision.
        channels_last: whether convolution kernels, and so the features, have their channels innermost.
    """

    precision: FixedPrecision
    channels_last: bool

    def __str__(self) -> str:
        return f"{self.precision}, channels {'last' if self.channels_last else 'first'}"


def native_precision() -> FixedPrecision:
    """Return the mixed precision that this machine's GPU or CPU computes natively, else ``32``.

    bfloat16 is preferred to float16. A CPU needs AVX-512 or AMX instructions for bfloat16; emulated bfloat16 is much
    slower than float32.
    """
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    return "bf16-mixed" if cpu_computes_bfloat16() and not torch.backends.mps.is_available() else "32"
