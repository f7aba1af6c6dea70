"""Options chosen on validation cases, with a model that reads its answers off the image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cphloc.evaluation.choose import choose_options
from cphloc.evaluation.trial import decided
from cphloc.metrics.bootstrap import Difference
from cphloc.recipe.recipe import load
from cphloc.structures.options import OPTIONS, ChosenOptions, Options

both = pytest.mark.parametrize("dims", [2, 3])
pytestmark = pytest.mark.usefixtures("own_cache")
MASKS = ("mask_probabilities",)


def case(number, image, mask):
    known = {"image": image.astype(np.float32), "mask": mask.astype(np.uint8)}
    return {"case": f"c{number}", "patient": f"p{number}", "split": "val", **known}


def speckled(dims, patients):
    """The model sees the object of class 1 and a speck beside it, which is no object."""
    truth = np.zeros((8,) * dims)
    truth[(slice(0, 4),) * dims] = 1
    image = truth.copy()
    image[(6,) * dims] = 1
    return [case(number, image, truth) for number in range(patients)]


def choose(localizer, **recipe):
    from cphloc.data.pipeline.pipeline import open_dataset

    plain = localizer.recipe.to_plain()
    plain["data"] |= recipe.pop("data", {})
    localizer.recipe = load({**plain, **recipe})
    cases = open_dataset(localizer.recipe.data, localizer.recipe.dims).cases("val")
    return choose_options([(localizer, case) for case in cases])


@both
def test_the_largest_component_is_chosen_and_predicted(hand_made, dims):
    rows = speckled(dims, 10)
    localizer = hand_made(rows, MASKS)
    chosen = choose(localizer)
    assert (chosen.options.largest, chosen.cases, chosen.patients, chosen.split) == (["mass"], 10, 10, "val")
    (kept,) = [trial for trial in chosen.trials if trial.kept]
    size = 4**dims
    assert (kept.of, kept.before, kept.after) == ("mass", pytest.approx(2 * size / (2 * size + 1)), 1.0)
    image = rows[0]["image"]
    assert localizer.predict(image, [1.0] * dims).masks.sum() == size + 1
    localizer.options = chosen.options
    for options in ({}, {"uncertainty": True}):
        result = localizer.predict(image, [1.0] * dims, **options)
        assert np.array_equal(result.masks, rows[0]["mask"])
        assert result.summary()["options"] == {"largest": ["mass"]}
        amount = result.measurements["mass"]
        assert next(iter(amount.values())) == pytest.approx(size / (1000 if dims == 3 else 1))
    assert localizer.predict(image, [1.0] * dims, postprocess=False).masks.sum() == size + 1


@both
def test_the_calibration_of_the_masks_is_measured_beside(hand_made, dims):
    rows = speckled(dims, 12)
    for row in rows[:2]:
        row["mask"][:] = 0  # without an object nothing is measured
    found = choose(hand_made(rows, MASKS)).calibration
    wrong = 1 / 8**dims  # the speck, of which the model is certain; the margin around the object is the whole image
    assert found.error == pytest.approx(wrong)
    assert (found.low, found.high) == (pytest.approx(wrong), pytest.approx(wrong))
    assert (found.cases, found.by_class) == (10, {"mass": pytest.approx(wrong)})


@both
def test_nothing_is_chosen_on_few_patients_and_it_is_said(hand_made, dims):
    chosen = choose(hand_made(speckled(dims, 9), MASKS))
    assert chosen.options == Options()
    assert {trial.why for trial in chosen.trials} == {"patients: 9; at least 10 are needed"}
    assert [trial.option for trial in chosen.trials] == list(OPTIONS)


@both
def test_a_class_that_the_labels_deny_is_removed_and_it_is_said(hand_made, dims):
    """Bright images have the object, dull ones are outlined alike and have none; the label tells them apart."""
    truth = np.zeros((8,) * dims)
    truth[(slice(0, 4),) * dims] = 1
    bright, dull = truth * 1.9, truth
    rows = [case(k, bright, truth) for k in range(10)] + [case(10 + k, dull, truth * 0) for k in range(10)]
    localizer = hand_made(rows, MASKS)
    head = localizer.model.heads["all"]
    decode = head.decode

    def labelled(raw):
        """What the head predicts, and half of the largest value as the label probability of both classes."""
        top = raw.flatten(1).amax(1, keepdim=True) / 2
        return replace(decode(raw), label_probabilities=top.expand(-1, 2))

    head.decode = labelled
    chosen = choose(localizer, options=["min_probability"])
    (least,) = chosen.options.min_probability.values()
    assert 0.5 < least < 0.95
    tried = [(trial.of, trial.kept, trial.gain) for trial in chosen.trials]
    assert tried == [("mass", True, 0.5), ("cyst", False, None)], "no image has a cyst"
    localizer.options = chosen.options
    for options in ({}, {"uncertainty": True}):
        found, removed = (localizer.predict(image, [1.0] * dims, **options) for image in (bright, dull))
        assert np.array_equal(found.masks, truth)
        assert not removed.masks.any()
        assert removed.summary()["options"] == {"min_probability": {"mass": least}}
        assert any("mass was outlined, but its label probability of 0.5 is below" in w for w in removed.warnings)
    assert localizer.predict(dull, [1.0] * dims, postprocess=False).masks.any()


def test_what_the_recipe_does_not_list_is_not_tried(hand_made):
    localizer = hand_made(speckled(2, 10), MASKS)
    assert choose(localizer, options=[]).trials == []
    (trial,) = choose(localizer, options=["min_size"]).trials
    assert (trial.option, trial.kept) == ("min_size", True)


def test_mirrored_views_are_refused_with_the_reason_or_tried_with_their_cost(hand_made):
    localizer = hand_made(speckled(2, 10), MASKS)
    (refused,) = choose(localizer, options=["tta"]).trials
    assert "without Flip" in refused.why
    (tried,) = choose(localizer, options=["tta"], data={"augment": [{"type": "Flip"}]}).trials
    assert (tried.kept, tried.time, tried.gain, tried.value) == (False, 4.0, 0.0, "4 views, axes 0, 1")


@pytest.mark.parametrize(("gain", "kept"), [(0.004, True), (0.001, False), (-0.01, False)])
def test_mirrored_views_must_gain_what_their_time_is_worth(gain, kept):
    found = Difference(gain, gain - 0.1, gain + 0.1, 10, 0, 0.5)
    assert decided("tta", "8 views", "dice", (0.8, 0.8 + gain), found, time=8).kept is kept


def test_no_cases_choose_nothing():
    assert choose_options([]) == ChosenOptions()


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("gain", [0.0004, 0.02])
def test_no_option_is_kept_for_a_gain_that_prints_as_zero(option, gain):
    found = Difference(gain, gain / 2, 2 * gain, 10, 0, 0.01)
    assert decided(option, "value", "dice", (0.8, 0.8 + gain), found).kept is (f"{gain:+.3f}" != "+0.000")
