"""The loop on a tiny model and batches made on the fly: stopping, resuming, choosing the best."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn

from cphloc.annotation import Annotation
from cphloc.targets import Targets
from cphloc.training import checkpoint
from cphloc.training.fit import Validation, fit
from cphloc.training.settings import Settings


@dataclass
class Batch:
    image: torch.Tensor
    targets: Targets
    ids: list[str]


class TinyModel(nn.Module):
    """Convolution, norm, dropout and a mask head: what a resume can get wrong."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        conv = (nn.Conv2d, nn.Conv3d)[dims - 2]
        norm = (nn.BatchNorm2d, nn.BatchNorm3d)[dims - 2]
        self.backbone = nn.Sequential(conv(1, 4, 3, padding=1), norm(4), nn.ReLU(), nn.Dropout(0.2))
        self.head = conv(4, 2, 1)

    def raws(self, image):
        return {"mask": self.head(self.backbone(image))}

    def loss(self, raws, targets):
        value = nn.functional.cross_entropy(raws["mask"], targets.masks, ignore_index=255)
        return {"loss": value, "mask/ce": value}


def batches_of(dims, size=8, per_batch=2, seed=0):
    def sample(i):
        rng = np.random.default_rng((seed, i))
        image = rng.normal(size=(size,) * dims).astype(np.float32)
        return image, Annotation(mask=(image > 0.5).astype(np.uint8))

    def batches(first, rank, ranks):
        number = first
        while True:
            start = number * per_batch
            images, annotations = zip(*(sample(i) for i in range(start + rank, start + per_batch, ranks)), strict=True)
            targets = Targets.collate(annotations, (size,) * dims, classes=1)
            yield Batch(torch.from_numpy(np.stack(images))[:, None], targets, [])
            number += 1

    return batches


def model_of(dims):
    torch.manual_seed(0)
    return TinyModel(dims)


def held_out(dims):
    batch = next(iter(batches_of(dims, seed=99)(0, 0, 1)))

    def validate(model):
        with torch.no_grad():
            return Validation({"loss": float(model.loss(model.raws(batch.image), batch.targets)["loss"])})

    return validate


SETTINGS = Settings(
    steps=12,
    optimizer={"type": "AdamW", "lr": 1e-2},
    validate_every=5,
    best="loss",
    precision="32",
    ema=0.9,
    accumulate=2,
)


def test_a_training_lowers_the_loss_and_leaves_best_and_last(tmp_path):
    seen = []
    settings = replace(SETTINGS, steps=60, validate_every=20)
    outcome = fit(model_of(2), batches_of(2), held_out(2), settings, tmp_path, log=lambda m, s: seen.append((s, m)))
    validated = [(step, m["val/loss"]) for step, m in seen if "val/loss" in m]
    assert [step for step, _ in validated] == [20, 40, 60]
    assert validated[-1][1] < validated[0][1] < 0.75
    assert outcome.stopped == "steps"
    assert outcome.best["loss"] == min(loss for _, loss in validated)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("interrupted_at", [3, 5, 8])
def test_an_interrupted_training_resumes_to_the_same_bits(dims, interrupted_at, tmp_path):
    fit(model_of(dims), batches_of(dims), held_out(dims), SETTINGS, tmp_path / "whole")

    def stop_early(first, rank, ranks):
        for i, batch in enumerate(batches_of(dims)(first, rank, ranks)):
            if i == 2 * interrupted_at - 1:
                import os
                import signal

                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    halted = fit(model_of(dims), stop_early, held_out(dims), SETTINGS, tmp_path / "parts")
    assert halted.stopped == "SIGTERM"
    assert halted.step < 12
    torch.manual_seed(interrupted_at)
    fit(TinyModel(dims), batches_of(dims), held_out(dims), SETTINGS, tmp_path / "parts", resume=True)
    for name in (checkpoint.LAST, checkpoint.BEST):
        whole, parts = (checkpoint.load(tmp_path / run / name)[0] for run in ("whole", "parts"))
        assert whole.keys() == parts.keys()
        assert all(torch.equal(whole[key], parts[key]) for key in whole)
