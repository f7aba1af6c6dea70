"""Runs and their names."""

from __future__ import annotations

from cphloc.recipe.recipe import load
from cphloc.tracking.run import Run


def test_latest_is_the_last_of_many_runs_begun_in_one_second(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = load(
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
    for _ in range(20):
        begun = Run.create(recipe)
        assert Run.open("latest").id == begun.id
