"""Runs and their names."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from cphloc.errors import NotFoundError
from cphloc.recipe.recipe import load
from cphloc.tracking import run
from cphloc.tracking.run import Run


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return load(
        {
            "task": "segmentation",
            "dims": 2,
            "data": {"type": "phantom"},
            "name": "one",
            "model": {
                "backbone": {"type": "conv_encoder", "widths": [4, 8]},
                "heads": {"mask": {"type": "unet", "classes": {1: "mass"}}},
            },
        }
    )


def test_latest_is_the_last_of_many_runs_begun_in_one_second(recipe):
    for _ in range(20):
        begun = Run.create(recipe)
        assert Run.open("latest").id == begun.id


@pytest.mark.parametrize("back", [timedelta(hours=1), timedelta(days=400)])
def test_latest_is_the_run_begun_last_after_the_clock_was_set_back(recipe, monkeypatch, back):
    class Earlier(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) - back

    Run.create(recipe)
    monkeypatch.setattr(run, "datetime", Earlier)
    begun = [Run.create(recipe).id for _ in range(3)]
    assert begun == sorted(begun)
    assert Run.open("latest").id == begun[-1]


def test_latest_is_no_folder_that_was_renamed(recipe):
    first, second = Run.create(recipe), Run.create(recipe)
    first.folder.rename(first.folder.with_name("zz-kept"))
    assert Run.open("latest").id == second.id
    assert Run.create(recipe).id == Run.open("latest").id


def test_a_bare_name_is_no_run_of_the_working_folder(recipe):
    Run.create(recipe).folder.rename("planted")
    with pytest.raises(NotFoundError, match="no run 'planted'"):
        Run.open("planted")
    assert Run.open("./planted").folder == Run.open(Path("planted")).folder
