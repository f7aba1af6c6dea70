"""Schedules against torch's own, groups and freezing by what they do to parameters."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from cphloc.errors import InputError, NotFoundError
from cphloc.training.optim import build_optimizer, build_schedule, freeze, set_lr, train_mode


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(0.5))
        self.head = nn.Conv2d(2, 2, 1)


TORCH_SCHEDULES = {
    "poly": lambda optimizer, steps: lr_scheduler.PolynomialLR(optimizer, steps, power=0.9),
    "cosine": lambda optimizer, steps: lr_scheduler.CosineAnnealingLR(optimizer, steps),
    "one_cycle": lambda optimizer, steps: lr_scheduler.OneCycleLR(optimizer, 0.1, steps, cycle_momentum=False),
    "constant": lambda optimizer, steps: lr_scheduler.ConstantLR(optimizer, factor=1.0),
}


@pytest.mark.parametrize("name", TORCH_SCHEDULES)
@pytest.mark.parametrize("steps", [7, 40])
def test_a_schedule_equals_torchs(name, steps):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    theirs = TORCH_SCHEDULES[name](optimizer, steps)
    ours = build_schedule(name, steps)
    for step in range(steps):
        assert 0.1 * ours(step) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-9)
        optimizer.step()
        theirs.step()


def test_the_step_schedule_drops_at_fractions():
    drops = build_schedule("step", 100, at=[0.5, 0.9], factor=0.1)
    assert [drops(s) for s in (0, 49, 50, 89, 90)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])


def test_warm_up_rises_linearly_and_the_curve_covers_the_rest():
    warmed, plain = build_schedule("poly", 50, warmup_steps=10), build_schedule("poly", 40)
    assert [warmed(s) for s in range(10)] == pytest.approx([(s + 1) / 10 for s in range(10)])
    assert [warmed(s) for s in range(10, 50)] == pytest.approx([plain(s) for s in range(40)])


@pytest.mark.parametrize(
    ("name", "args", "error", "text"),
    [
        ("polly", {}, NotFoundError, "did you mean 'poly'?"),
        ("poly", {"powr": 2.0}, NotFoundError, "did you mean 'power'?"),
        ("poly", {"warmup_steps": 10}, InputError, "not below train.steps = 10"),
        ("one_cycle", {"warmup_steps": 2}, InputError, "has its own warm-up"),
    ],
)
def test_a_wrong_schedule_says_what_to_do(name, args, error, text):
    with pytest.raises(error) as caught:
        build_schedule(name, 10, **args)
    assert text in str(caught.value)


def test_biases_and_norms_are_not_decayed_and_scales_multiply_the_rate():
    network = Network()
    optimizer = build_optimizer(network, "AdamW", lr=0.1, weight_decay=0.5, lr_scale={"backbone.*": 0.1})
    by_name = {
        name: group
        for name, parameter in network.named_parameters()
        for group in optimizer.param_groups
        if any(parameter is p for p in group["params"])
    }
    assert {n for n, g in by_name.items() if g["weight_decay"] == 0.5} == {"backbone.0.weight", "head.weight"}
    set_lr(optimizer, 0.5)
    assert {n: g["lr"] for n, g in by_name.items()} == pytest.approx(
        {n: 0.005 if n.startswith("backbone") else 0.05 for n in by_name}
    )


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ({"type": "Adamm", "lr": 1.0}, "did you mean 'Adam'?"),
        ({"type": "SGD", "lr": 1.0, "momentun": 0.9}, "did you mean 'momentum'?"),
        ({"type": "SGD", "lr": 1.0, "fused": True}, "takes no argument 'fused'"),
        ({"type": "SGD", "lr": 1.0, "lr_scale": {"bakcbone.*": 0.1}}, "'bakcbone.*' matches no parameter"),
    ],
)
def test_a_wrong_optimizer_says_what_to_do(args, text):
    with pytest.raises(NotFoundError) as caught:
        build_optimizer(Network(), **args)
    assert text in str(caught.value)


def test_frozen_parts_keep_weights_and_running_statistics():
    network = Network()
    assert freeze(network, ["backbone.*"]) == ["backbone.0.weight", "backbone.0.bias", *_norm_names()]
    train_mode(network)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimizer = build_optimizer(network, "SGD", lr=1.0)
    network.head(network.backbone(torch.randn(2, 1, 8, 8))).square().mean().backward()
    optimizer.step()
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"head.weight", "head.bias"}


def _norm_names():
    return ["backbone.1.weight", "backbone.1.bias"]


@pytest.mark.parametrize(
    ("pattern", "error", "text"),
    [
        ("encoder.*", NotFoundError, "'encoder.*' matches no parameter; the model's parts are backbone, head"),
        ("head.weigth", NotFoundError, "did you mean 'head.weight'?"),
        ("*", InputError, "leave at least one to train"),
    ],
)
def test_a_freeze_pattern_must_match_something_and_leave_something(pattern, error, text):
    with pytest.raises(error) as caught:
        freeze(Network(), [pattern])
    assert text in str(caught.value)
