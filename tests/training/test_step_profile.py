import time
from dataclasses import replace

import pytest
import yaml
from training.test_fit import SETTINGS, batches_of, held_out, model_of

from cphloc.cli.main import main
from cphloc.training.fit import fit
from cphloc.training.step_profile import FILE, PARTS, StepClock, StepProfile

SLOW = {"loading": 0.02, "forward": 0.04}
"""Seconds that a part of every micro-batch sleeps."""


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_each_part_of_a_step_gets_the_time_that_it_took_and_validation_gets_none(tmp_path, dims, accumulate):
    model, clock = model_of(dims), StepClock()
    outputs, validate = model.outputs, held_out(dims)

    def slow_outputs(image):
        time.sleep(SLOW["forward"] if model.training else 0)
        return outputs(image)

    def slow_batches(*args):
        for batch in batches_of(dims)(*args):
            time.sleep(SLOW["loading"])
            yield batch

    def slow_validate(model):
        time.sleep(0.5)
        return validate(model)

    model.outputs = slow_outputs
    settings = replace(SETTINGS, steps=4, validate_every=2, accumulate=accumulate)
    fit(model, slow_batches, slow_validate, settings, tmp_path, clock=clock)
    assert clock.steps == 3
    seconds = {part: taken / clock.steps for part, taken in clock.seconds.items()}
    assert seconds.keys() == PARTS.keys()
    for part in ("loading", "forward"):
        least = accumulate * SLOW[part]
        assert 0.8 * least <= seconds[part] < least + 0.1, part
    assert sum(seconds.values()) < accumulate * (SLOW["loading"] + SLOW["forward"]) + 0.2, "no validation is in it"


def test_a_training_that_resumes_is_measured_from_its_second_step_on():
    clock = StepClock()
    clock.begin(2)
    clock.mark("loading")
    clock.end_batch(3)
    assert clock.steps == 0
    assert set(clock.seconds.values()) == {0.0}
    clock.mark("forward")
    clock.end_batch(4)
    assert clock.steps == 1
    assert [part for part, seconds in clock.seconds.items() if seconds] == ["forward"]


def test_the_command_prints_and_keeps_the_profile(at_work, capsys):
    recipe = {
        "task": "segmentation",
        "dims": 2,
        "data": {
            **{"type": "phantom", "size": [32, 32], "patch": [32, 32], "cases": {"train": 2, "val": 1, "test": 1}},
            **{"augment": [{"type": "Affine"}, {"type": "GaussNoise"}], "workers": 0},
        },
        "model": {
            "backbone": {"type": "conv_encoder", "widths": [4, 8]},
            "heads": {"mask": {"type": "unet", "classes": {1: "mass"}}},
        },
        "train": {"steps": 4, "batch": 2, "validate_every": 4, "precision": "32"},
    }
    (at_work / "small.yaml").write_text(yaml.safe_dump(recipe))
    assert main(["train", "small.yaml", "--profile"]) == 0
    printed = capsys.readouterr().out
    (file,) = at_work.rglob(FILE)
    profile = StepProfile.read(file.parent)
    assert profile.steps == 3
    assert all(f"\n{part}" in printed for part in (*PARTS, "step"))
    assert f"{profile.loading_share:.1%}" in printed
    assert profile.batch_seconds["all"] > profile.batch_seconds["augmentation"] >= 0
