"""A pipeline is published, locked, verified and loaded like any entry, and depends on no other entry."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from entry_fixtures import ABOUT, tiny_recipe

import cphloc
from cphloc.data.pipeline.pipeline import open_dataset
from cphloc.errors import DataError, InputError
from cphloc.evaluation.evaluate import evaluate
from cphloc.publishing.audit import audit
from cphloc.publishing.publish import publish
from cphloc.publishing.verify import verify
from cphloc.tracking.tracker import Tracker
from cphloc.training.train import train
from cphloc.zoo.entry import Entry
from cphloc.zoo.lock import find_locked, lock
from cphloc.zoo.starting import load_recipe


def two_stages(dims: int) -> dict[str, Any]:
    """A pipeline of the entry ``tiny`` twice, on its phantoms."""
    data = {key: value for key, value in tiny_recipe(dims)["data"].items() if key != "patch"}
    crop = {"stage": "find", "margin_mm": 1.0}
    stages = {"find": {"entry": "tiny"}, "outline": {"entry": "tiny@^1", "crop": crop}}
    texts = {"name": "two", "description": "Two stages", "about": ABOUT}
    return {**texts, "task": "pipeline", "dims": dims, "data": data, "stages": stages}


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Log to files alone: an MLflow store takes seconds to make."""
    monkeypatch.setattr(Tracker, "push", lambda self: None)


@pytest.mark.parametrize("published", [2, 3], indirect=True)
def test_a_published_pipeline_depends_on_no_other_entry(published: Path, registered, offline, monkeypatch):
    zoo, dims = published.parent.parent, Entry.read(published / "entry.yaml").dims
    monkeypatch.setenv("CPHLOC_ZOO", str(zoo))
    run = train(two_stages(dims))
    facts = evaluate(run).facts
    assert facts["stages"]["outline"]["ran"] == 3
    assert set(facts["stages"]["outline"]["crop"]) == {"inside", "iou", "missed"}
    assert set(facts["oracle"]["metrics"]) == set(facts["metrics"])
    entry = publish(run, "two", "1.0.0", to=zoo, below_baseline="random weights")
    assert {name: stage.entry for name, stage in entry.stages.items()} == {
        "find": "tiny@1.0.0",
        "outline": "tiny@1.0.0",
    }
    case = open_dataset(run.recipe.data, dims).cases("test")[0]
    before = cphloc.load("two").predict(case.images[0])
    lock(["two"])
    shutil.rmtree(published.parent)  # its stages are gone
    assert [check.what for check in verify("two") if not check.right] == []
    assert all(finding.safe for finding in audit("two"))
    assert find_locked("two").version == "1.0.0"
    model = cphloc.load("two")
    assert np.array_equal(model.predict(case.images[0]).masks, before.masks)
    assert (model.recipe.task, dict(model.classes)) == ("pipeline", {1: "mass"})
    assert "in the true crop" in (zoo / "two" / "1.0.0" / "card.md").read_text()


@pytest.mark.parametrize("published", [2], indirect=True)
def test_an_entry_that_was_replaced_after_the_recipe_was_read_is_refused(published: Path, offline, monkeypatch):
    monkeypatch.setenv("CPHLOC_ZOO", str(published.parent.parent))
    recipe = load_recipe(two_stages(2))
    file = published / "entry.yaml"
    file.write_text(file.read_text().replace("Finds masses", "Finds other masses"))
    (published.parent.parent / "zoo.json").unlink(missing_ok=True)
    with pytest.raises(DataError, match=r"stages\.find: tiny@1\.0\.0 is not the tiny@1\.0\.0 that the recipe holds"):
        train(recipe)


@pytest.mark.parametrize("published", [2], indirect=True)
def test_what_needs_one_network_is_refused_with_a_reason(published: Path, monkeypatch):
    monkeypatch.setenv("CPHLOC_ZOO", str(published.parent.parent))
    with pytest.raises(InputError, match="a pipeline has no network of its own"):
        _ = load_recipe(two_stages(2)).model
