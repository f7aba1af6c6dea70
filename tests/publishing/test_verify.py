from __future__ import annotations

import shutil

import pytest

from cphloc.publishing.verify import verify


def wrong(folder):
    return {check.what for check in verify(folder) if not check.right}


@pytest.mark.parametrize("published", [2, 3], indirect=True)
def test_an_entry_as_published_is_right_in_everything(published):
    checks = verify(published)
    assert [check.what for check in checks if not check.right] == []
    names = {check.what for check in checks}
    assert {"entry.yaml", "recipe.yaml", "model.safetensors", "card.md", "cases.csv", "sample"} <= names


@pytest.mark.parametrize("file", ["card.md", "recipe.yaml", "model.safetensors", "sample/expected.json"])
def test_a_changed_or_missing_file_is_found(published, file):
    content = (published / file).read_bytes()
    (published / file).write_bytes(content + b"\n")
    assert wrong(published) == {file}
    (published / file).unlink()
    assert wrong(published) == {file}


def test_a_file_that_does_not_belong_is_found(published):
    (published / "setup.py").write_text("print('hello')")
    assert wrong(published) == {"setup.py"}


@pytest.mark.parametrize("published", [2, 3], indirect=True)
def test_another_prediction_than_published_is_found(published, monkeypatch):
    from cphloc.inference.localizer import Localizer

    ordinary = Localizer.predict
    from dataclasses import replace

    def otherwise(self, *args, **kwargs):
        result = ordinary(self, *args, **kwargs)
        return replace(result, masks=1 - result.masks)

    monkeypatch.setattr(Localizer, "predict", otherwise)
    assert wrong(published) == {"sample"}


def test_a_model_that_cannot_be_opened_is_wrong(tmp_path, put_entry):
    found = wrong(put_entry(tmp_path, "unet3d-ct", "1.0.0"))
    assert found == {"recipe.yaml"}, "every file is as published, the recipe is none"


def test_a_copy_elsewhere_verifies_too(published, tmp_path):
    shutil.copytree(published, tmp_path / "copy")
    assert wrong(tmp_path / "copy") == set()


def again(value, low, high, cases, baseline):
    metric = {"value": value, "low": low, "high": high, "n": 3, "n_undefined": 0}
    table = {"metrics": {"dice": metric}, "per_class": {"mass": {"dice": metric}}}
    return {**table, "cases": cases, "baseline": {"metrics": {"dice": baseline}, "per_class": {}}, "calibration": None}


@pytest.mark.parametrize(("shift", "right"), [(0.0, True), (0.001, True), (0.01, False)])
def test_the_numbers_of_the_card_are_measured_again(published, monkeypatch, shift, right):
    import sys
    import types

    from cphloc.zoo.entry import Entry

    entry = Entry.read(published / "entry.yaml")
    dice = entry.evaluation.metrics["dice"]
    baseline = entry.baseline.metrics["dice"].model_dump()
    measured = again(dice.value + shift, dice.low, dice.high, entry.evaluation.cases, baseline)
    fake = types.SimpleNamespace(evaluate=lambda model, split: types.SimpleNamespace(facts=measured))
    monkeypatch.setitem(sys.modules, "cphloc.evaluation.evaluate", fake)
    checks = {check.what: check.right for check in verify(published, metrics=True)}
    assert checks["cases"]
    assert checks["dice"] is right
    assert checks["mass: dice"] is right
    assert checks["baseline dice"]
    measured["baseline"]["metrics"]["dice"]["low"] -= 0.01
    checks = {check.what: check.right for check in verify(published, metrics=True)}
    assert not checks["baseline dice"]
