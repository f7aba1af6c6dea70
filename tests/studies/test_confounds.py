"""Differences between arms that none of them states are found, whatever their origin."""

from __future__ import annotations

import pytest

from cphloc.cli import main
from cphloc.studies.confounds import confounds
from cphloc.studies.study import load, shipped_studies
from tests.studies.small import BASE

HEADS = (
    BASE
    + """\
  model:
    backbone: {{type: conv_encoder, widths: [4, 8]}}
    heads: {{mask: {{type: unet, classes: {{1: mass}}}}}}
  train: {{steps: 2}}
arms:
  u-net: {{}}
  fcn: {{model.heads: {{mask: {{type: fcn, classes: {{1: mass}}{loss}}}}}}}
metrics: [dice]
"""
)

OTHER = """\
task: segmentation
dims: 2
data: {type: phantom, size: [16, 16], patch: [16, 16], positive: 0.5, cases: {train: 2, val: 1, test: 1}}
model:
  backbone: {type: conv_encoder, widths: [4, 8]}
  heads: {mask: {type: unet, classes: {1: mass}}}
train: {steps: 9}
"""


@pytest.mark.parametrize(("dims", "size"), [(2, [16, 16]), (3, [8, 16, 16])])
def test_the_default_losses_of_two_heads_are_a_confound_and_an_equal_loss_is_none(tmp_path, dims, size, capsys):
    path = tmp_path / "s.yaml"
    path.write_text(HEADS.format(dims=dims, size=size, loss=""))
    by_key = {one.key: one.values for one in confounds(load(path))}
    assert by_key["model.heads.mask.loss"] == {"u-net": "DiceCE", "fcn": "CrossEntropy"}
    assert main(["study", str(path), "--check"]) == 0
    assert "model.heads.mask.loss: DiceCE (u-net); CrossEntropy (fcn)" in capsys.readouterr().out
    path.write_text(path.read_text() + "confounds: {model.heads.*.loss: as published}\n")
    assert {one.key: one.reason for one in confounds(load(path))}["model.heads.mask.loss"] == "as published"
    path.write_text(HEADS.format(dims=dims, size=size, loss=", loss: {type: dice_ce}"))
    assert "model.heads.mask.loss" not in {one.key for one in confounds(load(path))}


def test_an_arm_that_is_another_recipe_states_nothing(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text(HEADS.format(dims=2, size=[16, 16], loss=", loss: {type: dice_ce}"))
    recipe = tmp_path / "other.yaml"
    recipe.write_text(OTHER)
    path.write_text(path.read_text().replace("\nmetrics", "\n  other: other.yaml\nmetrics"))
    assert {"train.steps", "data.positive"} <= {one.key for one in confounds(load(path))}


@pytest.mark.parametrize(
    ("arm", "key"),
    [
        ("train.steps: 9", "train.steps"),
        ("train.batch: 1", "train.batch"),
        ("train.validate_every: 1", "train.validate_every"),
        ("tune: {key: model.backbone.convolutions, values: [1, 2], by: dice}", "tune"),
    ],
)
def test_arms_must_have_equal_budgets_even_where_they_state_them(tmp_path, arm, key):
    path = tmp_path / "s.yaml"
    path.write_text(HEADS.format(dims=2, size=[16, 16], loss="").replace("u-net: {}", f"u-net: {{{arm}}}"))
    assert key in {one.key for one in confounds(load(path))}
    path.write_text(path.read_text() + f"confounds: {{{key}: the claim is about it}}\n")
    assert {one.key: one.reason for one in confounds(load(path))}[key] == "the claim is about it"


@pytest.mark.parametrize("name", shipped_studies())
def test_a_study_of_the_lecture_gives_a_reason_for_every_confound(name):
    assert [str(one) for one in confounds(load(name)) if not one.reason] == []
