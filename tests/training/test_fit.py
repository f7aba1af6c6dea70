"""The loop on a tiny model and batches made on the fly: stopping, resuming, choosing the best."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn

from cphloc.errors import NotFoundError
from cphloc.ops.targets import Targets
from cphloc.structures.annotation import Annotation
from cphloc.training import checkpoint
from cphloc.training.divergence import DivergedError
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

    def outputs(self, image):
        return {"mask": self.head(self.backbone(image))}

    def loss(self, outputs, targets):
        value = nn.functional.cross_entropy(outputs["mask"], targets.masks, ignore_index=255)
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
            return Validation({"loss": float(model.loss(model.outputs(batch.image), batch.targets)["loss"])})

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
    assert {"system/cpu_cores", "system/peak_ram_mb", "train/lr"} <= set().union(*(metrics for _, metrics in seen))
    assert outcome.stopped == "steps"
    assert outcome.best["loss"] == min(loss for _, loss in validated)


@pytest.mark.parametrize(("seconds", "low", "high"), [(0.0, 0.0, 0.9), (0.2, 0.5, 1.0)])
def test_the_share_of_time_that_a_training_waits_for_batches_is_logged(seconds, low, high, tmp_path):
    def slow(first, rank, ranks):
        for batch in batches_of(2)(first, rank, ranks):
            time.sleep(seconds)
            yield batch

    seen = []
    settings = replace(SETTINGS, steps=10, accumulate=1, validate_every=10)
    fit(model_of(2), slow, held_out(2), settings, tmp_path, log=lambda m, s: seen.append(m))
    (share,) = [m["system/loading_share"] for m in seen if "system/loading_share" in m]
    assert low <= share <= high


def test_losses_are_told_how_much_of_the_training_is_done(tmp_path):
    class Listening(TinyModel):
        progress = -1.0

        def __init__(self, dims):
            super().__init__(dims)
            self.heard = []

        def loss(self, outputs, targets):
            if self.training:
                self.heard.append(self.progress)
            return super().loss(outputs, targets)

    model = Listening(2)
    fit(model, batches_of(2), held_out(2), replace(SETTINGS, steps=4, validate_every=4), tmp_path)
    assert model.heard == [0.0, 0.0, 0.25, 0.25, 0.5, 0.5, 0.75, 0.75]


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("interrupted_at", [3, 5, 8])
def test_an_interrupted_training_resumes_to_the_same_bits(dims, interrupted_at, tmp_path):
    fit(model_of(dims), batches_of(dims), held_out(dims), SETTINGS, tmp_path / "whole")

    def stop_early(first, rank, ranks):
        for i, batch in enumerate(batches_of(dims)(first, rank, ranks)):
            if i == 2 * interrupted_at - 1:
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


def test_a_killed_training_loses_what_came_after_the_last_validation_and_no_more(tmp_path):
    fit(model_of(2), batches_of(2), held_out(2), SETTINGS, tmp_path / "whole")

    def killed(first, rank, ranks):
        for i, batch in enumerate(batches_of(2)(first, rank, ranks)):
            if i == 16:
                raise ConnectionError
            yield batch

    with pytest.raises(ConnectionError):
        fit(model_of(2), killed, held_out(2), SETTINGS, tmp_path / "parts")
    assert checkpoint.load(tmp_path / "parts" / checkpoint.LAST)[1]["outcome"]["step"] == 5
    fit(model_of(2), batches_of(2), held_out(2), SETTINGS, tmp_path / "parts", resume=True)
    whole, parts = (checkpoint.load(tmp_path / run / checkpoint.LAST)[0] for run in ("whole", "parts"))
    assert all(torch.equal(whole[key], parts[key]) for key in whole)


def test_a_finished_training_has_nothing_to_resume(tmp_path):
    done = fit(model_of(2), batches_of(2), held_out(2), SETTINGS, tmp_path)
    again = fit(model_of(2), batches_of(2), held_out(2), SETTINGS, tmp_path, resume=True)
    assert (again.step, again.best) == (done.step, done.best)


class Clock:
    """Time that passes only when a test says so."""

    def __init__(self):
        self.seconds = 0.0

    def monotonic(self):
        return self.seconds

    process_time = monotonic


def test_a_time_budget_counts_the_validation_and_leaves_usable_weights(tmp_path, monkeypatch):
    clock, rates, validated = Clock(), {}, []
    monkeypatch.setattr("cphloc.training.fit.time", clock)

    def steps_of_a_second(first, rank, ranks):
        for batch in batches_of(2)(first, rank, ranks):
            clock.seconds += 0.5
            yield batch

    def validation_of_five_seconds(model):
        clock.seconds += 5
        validated.append(clock.seconds)
        return held_out(2)(model)

    def log(metrics, step):
        rates.update({step: metrics["train/lr"]} if "train/lr" in metrics else {})

    settings = replace(SETTINGS, steps=100_000, validate_every=100_000, minutes=1)
    outcome = fit(model_of(2), steps_of_a_second, validation_of_five_seconds, settings, tmp_path, log=log)
    assert outcome.stopped == "minutes"
    assert 52 <= clock.seconds <= 60.5  # the batch whose steps are measured is drawn before the budget begins
    assert validated[0] < 25, "an early validation tells how long they take, and leaves weights to use"
    assert validated[-1] == clock.seconds
    assert rates[40] == pytest.approx(0.01 * (1 - 45 / 60) ** 0.9, rel=0.1), "the schedule ends with the budget"
    assert (tmp_path / checkpoint.BEST).is_file()


def test_a_resumed_training_continues_its_schedule_by_minutes(tmp_path, monkeypatch):
    """Stopped after half of a minute; neither the rate nor the early validation starts again."""
    clock, rates, validated = Clock(), [], []
    monkeypatch.setattr("cphloc.training.fit.time", clock)

    def steps_of_a_second(stop_at):
        def batches(first, rank, ranks):
            for batch in batches_of(2)(first, rank, ranks):
                clock.seconds += 0.5
                if clock.seconds == stop_at:
                    os.kill(os.getpid(), signal.SIGTERM)
                yield batch

        return batches

    def validate(model):
        validated.append(clock.seconds)
        return held_out(2)(model)

    def log(metrics, step):
        rates.extend([metrics["train/lr"]] if "train/lr" in metrics else [])

    settings = replace(SETTINGS, steps=100_000, validate_every=100_000, minutes=1)
    fit(model_of(2), steps_of_a_second(30.5), validate, settings, tmp_path, log=log)
    before, clock.seconds = list(rates), 1000.0
    done = fit(model_of(2), steps_of_a_second(None), validate, settings, tmp_path, log=log, resume=True, seconds=20)
    assert done.stopped == "minutes"
    assert 57 <= done.seconds <= 60, "a second preparation does not count"
    assert rates == sorted(rates, reverse=True)
    assert max(rates[len(before) :]) < before[-1]
    assert len(validated) == 2, "the early one, and the last"


def test_a_long_preparation_counts_and_is_not_taken_for_slow_steps(tmp_path, monkeypatch):
    clock = Clock()
    monkeypatch.setattr("cphloc.training.fit.time", clock)

    def steps_of_a_second(first, rank, ranks):
        for batch in batches_of(2)(first, rank, ranks):
            clock.seconds += 0.5
            yield batch

    settings = replace(SETTINGS, steps=100_000, validate_every=100_000, minutes=1)
    outcome = fit(model_of(2), steps_of_a_second, held_out(2), settings, tmp_path, seconds=40)
    assert outcome.stopped == "minutes"
    assert 57 <= outcome.seconds <= 60
    assert outcome.step > 15


def scripted(values):
    """Validations that give these values, one after the other."""
    remaining = iter(values)
    return lambda model: Validation({"dice": next(remaining), "hd95_mm": 1.0})


def test_training_stops_when_nothing_improves_and_keeps_the_best(tmp_path):
    settings = replace(SETTINGS, steps=100, validate_every=2, best="dice", patience=2)
    validate = scripted([0.5, float("nan"), 0.7, 0.6, 0.7, 0.9])
    outcome = fit(model_of(2), batches_of(2), validate, settings, tmp_path)
    assert (outcome.stopped, outcome.step, outcome.best_step) == ("patience", 10, 6)
    kept = {"step": 6, "metrics": {"dice": 0.7, "hd95_mm": 1.0}, "cases": []}
    assert checkpoint.load(tmp_path / checkpoint.BEST)[1] == kept


def test_training_that_is_stopped_early_is_not_continued_by_a_resume(tmp_path):
    seen = []

    def second(step, metrics):
        """Stop at the second validation."""
        seen.append((step, metrics["dice"]))
        return len(seen) == 2

    settings = replace(SETTINGS, steps=100, validate_every=2, best="dice")
    outcome = fit(model_of(2), batches_of(2), scripted([0.5, 0.7]), settings, tmp_path, stop_early=second)
    assert (outcome.stopped, outcome.step, outcome.best_step) == ("pruned", 4, 4)
    assert seen == [(2, 0.5), (4, 0.7)]
    again = fit(model_of(2), batches_of(2), scripted([]), settings, tmp_path, resume=True)
    assert (again.stopped, again.step) == ("pruned", 4)


def test_an_undefined_metric_is_beaten_by_any_number(tmp_path):
    settings = replace(SETTINGS, steps=4, validate_every=2, best="dice")
    outcome = fit(model_of(2), batches_of(2), scripted([float("nan"), 0.0]), settings, tmp_path)
    assert outcome.best_step == 4


def test_an_unknown_best_metric_is_named_with_its_neighbour(tmp_path):
    settings = replace(SETTINGS, best="dise")
    with pytest.raises(NotFoundError, match="did you mean 'dice'"):
        fit(model_of(2), batches_of(2), scripted([0.5]), settings, tmp_path)


@pytest.mark.parametrize(
    ("factor", "every", "said"),
    [
        (lambda step: float("inf"), 20, "at step 10: train/loss is (inf|nan|-inf)"),
        (lambda step: float("nan") if step > 3 else 1.0, 5, r"at step 5: train/loss is nan.*"),
        (lambda step: 1e9 if step > 12 else 1.0, 40, r"at step 20: the loss has grown to .* \(it began at "),
    ],
    ids=["infinite", "NaN between two logs", "grown"],
)
def test_a_training_that_diverges_stops_with_reason_and_advice(tmp_path, factor, every, said):
    class Diverging(TinyModel):
        calls = 0

        def loss(self, outputs, targets):
            self.calls += 1
            return {"loss": outputs["mask"].abs().sum() * factor(self.calls)}

    settings = replace(SETTINGS, steps=40, validate_every=every, accumulate=1)
    with pytest.raises(DivergedError, match=f"^the training diverged {said}.*; lower train.optimizer.lr"):
        fit(Diverging(2), batches_of(2), held_out(2), settings, tmp_path)


def test_weights_that_are_not_finite_are_never_validated_and_the_best_ones_are_named(tmp_path):
    class Broken(TinyModel):
        calls = 0

        def loss(self, outputs, targets):
            self.calls += 1
            if self.calls == 5:
                with torch.no_grad():
                    next(self.parameters()).fill_(float("nan"))
            return {"loss": outputs["mask"].detach().sum() * 0 + next(self.parameters()).sum() * 0 + 1}

    settings = replace(SETTINGS, steps=8, validate_every=4, accumulate=1, best="dice")
    said = r"(is nan|is not finite).*The weights of step 4 \(dice 0.5\) are in .*best.safetensors"
    with pytest.raises(DivergedError, match=said):
        fit(Broken(2), batches_of(2), scripted([0.5, 0.9]), settings, tmp_path)
    weights, facts = checkpoint.load(tmp_path / checkpoint.BEST)
    assert facts["step"] == 4
    assert all(torch.isfinite(value).all() for value in weights.values())


def test_training_leaves_signal_handlers_as_they_were(tmp_path):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    fit(model_of(2), batches_of(2), held_out(2), SETTINGS, tmp_path)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
