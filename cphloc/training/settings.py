"""What a training needs to be told, apart from the model and the data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch

from cphloc.registry import catalogue
from cphloc.registry.metrics import lower_is_better

if TYPE_CHECKING:
    from cphloc.recipe.recipe import Recipe

Precision = Literal["auto", "32", "bf16-mixed", "16-mixed"]

Strategy = Literal["ddp", "fsdp"]

Batches = Callable[[int, int, int], Iterable[Any]]
"""``batches(first, rank, ranks)``: the endless stream of this rank's training batches, from number ``first`` on."""


@dataclass(frozen=True)
class Settings:
    """How to train; the fields are those of ``train`` in a recipe.

    Args:
        steps: optimizer steps of the whole training.
        optimizer: ``type``, ``lr`` and the optimizer's own arguments, see `optim.build_optimizer`.
        schedule: ``type`` and the schedule's own arguments, see `optim.build_schedule`.
        warmup_steps: steps over which the learning rate rises linearly.
        precision: ``auto`` takes bfloat16 or half precision where the device computes it natively.
        accumulate: micro-batches per step.
        clip_norm: largest norm of the gradient, ``None`` for no limit.
        ema: decay of the weights' average that is validated and published, ``None`` for none.
        seed: everything random follows from it.
        validate_every: steps between validations; each also writes a checkpoint.
        best: validation metric that chooses the published weights.
        minutes: time budget; the last validation is part of it, and the schedule ends with it.
        patience: validations without improvement before the training stops early.
        freeze: patterns of parameter names that are not trained.
        strategy: how several processes share the work: each holds the whole model, or a part of it.
        rungs: by head, the rung of the cases that its loss is a mean over; heads of several rungs are left out.
    """

    steps: int
    optimizer: Mapping[str, Any] = field(default_factory=lambda: {"type": "AdamW", "lr": 1e-3})
    schedule: Mapping[str, Any] = field(default_factory=lambda: {"type": "poly"})
    warmup_steps: int = 0
    precision: Precision = "auto"
    accumulate: int = 1
    clip_norm: float | None = 12.0
    ema: float | None = None
    seed: int = 0
    validate_every: int = 500
    best: str = "dice"
    minutes: float | None = None
    patience: int | None = None
    freeze: Sequence[str] = ()
    strategy: Strategy = "ddp"
    rungs: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_recipe(cls, recipe: Recipe, strategy: Strategy = "ddp") -> Settings:
        """The ``train`` fields of a recipe, and what it freezes; the strategy belongs to the machine."""
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
            seed=train.seed,
            validate_every=train.validate_every or -(-train.steps // 10),
            best=recipe.headline,
            minutes=train.minutes,
            patience=train.patience,
            freeze=recipe.freeze,
            strategy=strategy,
            rungs={name: rung for name, rung in rungs.items() if rung in ("mask", "boxes")},
        )

    def better(self, value: float, than: float | None) -> bool:
        """Whether ``value`` of the metric ``best`` beats ``than``; NaN beats nothing but ``None``.

        >>> Settings(steps=1, best="dice").better(0.8, than=0.7), Settings(steps=1, best="hd95_mm").better(8, than=7)
        (True, False)
        """
        if than is None or than != than:
            return True
        return value < than if lower_is_better(self.best) else value > than


def native_precision() -> Literal["32", "bf16-mixed", "16-mixed"]:
    """The fastest mixed precision that this machine's device computes natively, else ``32``.

    Emulated bfloat16 is hundreds of times slower than float32, so a CPU must say that it has it.
    """
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16-mixed" if native and not torch.backends.mps.is_available() else "32"
