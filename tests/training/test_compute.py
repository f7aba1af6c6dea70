"""How a training step is computed: chosen by measurement, kept when resumed, without effect on the steps."""

from __future__ import annotations

import pytest
import torch
from training.test_fit import batches_of, held_out, model_of

from cphloc.training import checkpoint, compute
from cphloc.training.fit import fit
from cphloc.training.module import TrainingModule
from cphloc.training.settings import Compute, Settings

LAST, FIRST = Compute("32", channels_last=True), Compute("32", channels_last=False)


@pytest.fixture
def took(monkeypatch):
    """CPU seconds that a step takes, by option."""
    seconds = {LAST: 2.0, FIRST: 2.0}
    monkeypatch.setattr(compute, "_seconds", lambda model, batch, option: seconds[option])
    monkeypatch.setattr(compute.torch.cuda, "is_available", lambda: False)
    return seconds


def trained(folder, dims=3, steps=2, **options):
    folder.mkdir(exist_ok=True)
    settings = Settings(steps=steps, precision="32", validate_every=1, best="loss")
    model = model_of(dims)
    outcome = fit(model, batches_of(dims), held_out(dims), settings, folder, **options)
    return model, outcome


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(("seconds", "expected"), [(1.0, FIRST), (1.9, LAST), (3.0, LAST)])
def test_another_way_is_chosen_where_it_is_clearly_faster(seconds, expected, dims, took, tmp_path, capsys):
    took[FIRST] = seconds
    trained(tmp_path, dims)
    assert f"Chosen: {expected}" in capsys.readouterr().err
    _, facts = checkpoint.load(tmp_path / checkpoint.LAST)
    assert facts["module"]["compute"] == {"precision": "32", "channels_last": expected.channels_last}


def test_short_steps_are_computed_in_the_usual_way(took, tmp_path, capsys):
    took |= {LAST: 0.01, FIRST: 0.001}
    trained(tmp_path)
    _, facts = checkpoint.load(tmp_path / checkpoint.LAST)
    assert facts["module"]["compute"]["channels_last"]
    assert capsys.readouterr().err == ""


def test_a_resumed_training_keeps_the_choice(took, tmp_path):
    took[FIRST] = 1.0
    trained(tmp_path, steps=1)
    _, facts = checkpoint.load(tmp_path / checkpoint.LAST)
    known = Compute(**facts["module"]["compute"])
    assert known == FIRST
    took |= {LAST: 0.5, FIRST: 9.0}
    module = TrainingModule(model_of(3), batches_of(3), Settings(steps=2, precision="32"))
    assert compute.choose(module, known) == FIRST
    assert compute.choose(module) == LAST
    other = TrainingModule(model_of(3), batches_of(3), Settings(steps=2, precision="32"))
    assert compute.choose(other, Compute("bf16-mixed", channels_last=False)) == LAST, "not computed here"


def test_measuring_changes_no_step(tmp_path, monkeypatch):
    monkeypatch.setattr(compute.torch.cuda, "is_available", lambda: False)
    measured, _ = trained(tmp_path / "measured", steps=3)
    monkeypatch.setattr("cphloc.training.trainer.choose", lambda module, known: LAST)
    plain, _ = trained(tmp_path / "plain", steps=3)
    assert all(map(torch.equal, measured.state_dict().values(), plain.state_dict().values()))


@pytest.mark.parametrize("dims", [2, 3])
def test_kernels_are_laid_out_without_another_value(dims):
    conv = {2: torch.nn.Conv2d, 3: torch.nn.Conv3d}[dims](2, 3, 3)
    before, strides = conv.weight.detach().clone(), conv.weight.stride()
    compute.lay_out(conv, channels_last=True)
    assert conv.weight.stride(1) == 1
    assert torch.equal(conv.weight, before)
    compute.lay_out(conv, channels_last=False)
    assert conv.weight.stride() == strides
