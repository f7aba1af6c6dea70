"""The time of a training step is that of real steps."""

from __future__ import annotations

import time

from cphloc.recipe.recipe import load
from cphloc.training import speed


def test_a_step_is_measured_without_the_first_one_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = load(
        {
            "task": "segmentation",
            "dims": 3,
            "data": {"type": "hippocampus", "root": "sample", "patch": [16, 16, 16]},
            "model": {
                "backbone": {"type": "conv_encoder", "widths": [4, 8]},
                "heads": {"mask": {"type": "unet", "classes": {1: "anterior", 2: "posterior"}}},
            },
        }
    )
    pauses = iter([0.0, 0.2, 0.2, 0.2])
    original = speed.TrainingModule.training_step

    def slow(self, batch, *rest):
        time.sleep(next(pauses))
        return original(self, batch, *rest)

    monkeypatch.setattr(speed.TrainingModule, "training_step", slow)
    assert speed.seconds_per_step(recipe) >= 0.2
    assert next(pauses, None) is None
    assert list(tmp_path.iterdir()) == []
