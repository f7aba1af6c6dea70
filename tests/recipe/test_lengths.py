"""Inherited settings that cannot work for another number of steps are adapted, and say so."""

from __future__ import annotations

import pytest

from cphloc.recipe.recipe import load

PARENT = """
task: segmentation
dims: 2
data: {type: phantom, size: [32, 32], patch: [32, 32]}
model:
  backbone: {type: conv_encoder, widths: [4, 8]}
  heads: {mask: {type: unet, classes: {1: mass}}}
train: {steps: 6000, warmup_steps: 500, ema: 0.995, optimizer: {type: AdamW, lr: 1e-5}}
"""


@pytest.fixture
def loaded(tmp_path):
    def _load(child: str, **overrides):
        (tmp_path / "parent.yaml").write_text(PARENT)
        (tmp_path / "child.yaml").write_text(f"extends: parent.yaml\n{child}")
        return load(tmp_path / "child.yaml", overrides)

    return _load


@pytest.mark.parametrize("how", ["a recipe that extends", "--set"])
def test_inherited_values_are_adapted_to_a_short_training(loaded, how):
    recipe = loaded("", **{"train.steps": 60}) if how == "--set" else loaded("train: {steps: 60}")
    assert recipe.train.ema == 0.926
    assert 0.005 < recipe.train.ema**60 <= 0.01
    assert recipe.train.warmup_steps == 6
    assert recipe.train.optimizer.args["lr"] == pytest.approx(0.01 / 60, rel=0.05)
    origin = str(recipe.tree.get(("train", "ema")).where)
    assert origin.startswith("adapted to train.steps = 60 from 0.995 (")
    assert "parent.yaml" in origin


def test_the_stored_recipe_has_the_adapted_values_and_stays_as_it_is(loaded):
    recipe = loaded("train: {steps: 60}")
    assert load(recipe.to_plain()).to_plain() == recipe.to_plain()


def test_what_works_is_kept(loaded):
    train = loaded("train: {steps: 3000}").train
    assert (train.ema, train.warmup_steps, train.optimizer.args["lr"]) == (0.995, 500, 1e-5)


def test_what_a_person_states_with_the_steps_is_kept(loaded):
    train = loaded("train: {steps: 60, ema: 0.999, warmup_steps: 5, optimizer: {lr: 1.0e-9}}").train
    assert (train.ema, train.warmup_steps, train.optimizer.args["lr"]) == (0.999, 5, 1e-9)
    assert loaded("train: {ema: 0.9999}").train.ema == 0.9999
    assert loaded("", **{"train.steps": 60, "train.ema": 0.999}).train.ema == 0.999


def test_rates_of_other_optimizers_are_kept(loaded):
    assert loaded("train: {steps: 60, optimizer: {type: SGD, lr: 1.0e-5}}").train.optimizer.args["lr"] == 1e-5
