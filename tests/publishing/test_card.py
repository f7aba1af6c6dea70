from __future__ import annotations

import pytest

from cphloc.metrics.recommended import recommended
from cphloc.publishing.card import format_metric, model_card, verdict
from cphloc.zoo.entry import Entry
from cphloc.zoo.measured import Metric


@pytest.fixture
def entry(entry_facts):
    return Entry.model_validate(entry_facts("unet3d-ct", "1.2.0"))


@pytest.mark.parametrize(
    "text",
    [
        "# unet3d-ct 1.2.0",
        "| **dice** | 0.800 [0.750, 0.850] | 0.600 [0.550, 0.650] | yes | 8 |",
        "| tumour | 0.800 [0.750, 0.850] |",
        "On the 8 cases of the test split",
        "It beats the baseline in dice, with intervals apart.",
        "- Never tested on children.",
        "Research on volumetry; not for diagnosis.",
        "CC BY 3.0",
        "Vallieres et al. 2015",
        'cphloc.load("unet3d-ct@1.2.0")',
        "cphloc verify unet3d-ct@1.2.0 --metrics",
        "cphloc predict unet3d-ct@1.2.0 scan.nii.gz --out out",
        "mlflow models serve -m models:/unet3d-ct/latest",
        "3 x 2 x 2 mm",
        "1,400,000",
        "seed 0",
    ],
)
def test_the_card_states(entry, text):
    assert text in model_card(entry)


def test_the_first_words_say_whether_the_entry_is_above_its_baseline(entry_facts):
    facts = entry_facts("a", "1.0.0")
    gain = {"value": 0.05, "low": -0.01, "high": 0.1, "n": 8, "p_value": 0.2}
    far = {"value": -3.0, "low": -4.0, "high": -2.0, "n": 8, "p_value": 0.01}
    facts["baseline"]["metrics"]["hd95_mm"] = {"value": 10.5, "low": 9.0, "high": 12.0, "n": 8}
    facts["baseline"]["paired"] = {"dice": gain, "hd95_mm": far}
    line = model_card(Entry.model_validate(facts)).splitlines()[2]
    assert line == (
        "**Not above its baseline** in dice: 0.800 [0.750, 0.850] against 0.600 [0.550, 0.650] (mean shape), paired "
        "difference +0.050 [-0.010, +0.100] on 8 cases."
    )
    facts["baseline"]["paired"] = {"dice": {**gain, "low": 0.01}, "hd95_mm": {**far, "high": 1.0}}
    line = model_card(Entry.model_validate(facts)).splitlines()[2]
    assert line.startswith("**Above its baseline** in dice: 0.800")
    assert line.endswith("[+0.010, +0.100] on 8 cases. Not above it in: hd95_mm.")
    facts |= {"below_baseline": "a negative result", "summary": "Not above its baseline. Finds things"}
    card = model_card(Entry.model_validate(facts))
    assert "Published because: a negative result\n\nFinds things\n" in card


def test_groups_training_and_parity_are_stated_where_they_were_recorded(entry_facts):
    facts = entry_facts("a", "1.0.0")
    plain = model_card(Entry.model_validate(facts))
    assert not any(word in plain for word in ("## Subgroups", "| training |", "| ONNX |"))
    dice = {"value": 0.7, "low": 0.6, "high": 0.8, "n": 5}
    facts["evaluation"]["groups"] = {"site": {"north": {"cases": 5, "patients": 4, "metrics": {"dice": dice}}}}
    facts |= {"onnx": "equal within 1e-06", "training": {"hours": 1.5, "steps": 3000, "device": "2 cores"}}
    text = model_card(Entry.model_validate(facts))
    assert "| site | cases (patients) | dice |\n| --- | --- | --- |\n| north | 5 (4) | 0.700 [0.600, 0.800] |" in text
    assert "| training | 1.50 hours, 3,000 steps, on 2 cores |" in text
    assert "| ONNX | equal within 1e-06 |" in text


@pytest.mark.parametrize(
    ("files", "channels", "argument", "source"),
    [
        (["ct.nii.gz"], ["ct"], "sample/ct.nii.gz", '"sample/ct.nii.gz"'),
        (["image.jpg"], ["red", "green", "blue"], "sample/image.jpg", '"sample/image.jpg"'),
        (
            ["pet.nii.gz", "ct.nii.gz"],
            ["ct", "pet"],
            "ct=sample/ct.nii.gz,pet=sample/pet.nii.gz",
            '{"ct": "sample/ct.nii.gz", "pet": "sample/pet.nii.gz"}',
        ),
    ],
)
def test_the_example_reads_the_sample(entry_facts, files, channels, argument, source):
    facts = entry_facts("a", "1.0.0") | {"channels": channels}
    pin = facts["files"]["recipe.yaml"]
    facts["files"] |= {f"sample/{name}": pin for name in [*files, "expected.json", "expected_mask.npz"]}
    text = model_card(Entry.model_validate(facts))
    assert f"cphloc predict a@1.0.0 {argument} --out out\n" in text
    assert f"result = model.predict({source})\n" in text


def baseline(entry, value):
    low, high = value - 0.05, value + 0.05
    metrics = {"dice": Metric(value=value, low=low, high=high, n=8)}
    return entry.model_copy(update={"baseline": entry.baseline.model_copy(update={"metrics": metrics})})


def test_an_entry_that_does_not_beat_its_baseline_says_so(entry):
    assert verdict(baseline(entry, 0.69)).startswith("It beats")
    assert "does not beat" in verdict(baseline(entry, 0.72))
    assert "does not beat" in model_card(baseline(entry, 0.9))


def test_of_distances_the_smaller_is_better(entry_facts):
    facts = entry_facts("unet3d-ct", "1.2.0")
    facts["evaluation"]["metrics"] = {"hd95_mm": {"value": 5.0, "low": 4.0, "high": 6.0, "n": 8}}
    facts["baseline"]["metrics"] = {"hd95_mm": {"value": 9.0, "low": 8.0, "high": 10.0, "n": 8}}
    assert verdict(Entry.model_validate(facts)).startswith("It beats")


def detector(entry_facts):
    facts = entry_facts("retina3d-petct", "1.0.0") | {"task": "detection"}
    ours = {"ap50": (0.5, 0.4, 0.6), "map": (0.3, 0.2, 0.35), "froc": (0.6, 0.5, 0.7), "recall50": (0.7, 0.6, 0.8)}
    theirs = {"ap50": (0.1, 0.0, 0.2), "map": (0.25, 0.1, 0.3), "froc": (0.2, 0.1, 0.3)}

    def table(values):
        return {n: {"value": v, "low": low, "high": high, "n": 8} for n, (v, low, high) in values.items()}

    facts["evaluation"] |= {"metrics": table(ours), "per_class": {"tumour": table(ours)}}
    facts["baseline"] = {"name": "mean box", "metrics": table(theirs), "per_class": {"tumour": table(theirs)}}
    return facts


def test_every_metric_is_held_against_the_baseline(entry_facts):
    entry = Entry.model_validate(detector(entry_facts))
    assert verdict(entry) == ("It beats the baseline in ap50, with intervals apart. Better too: froc. Not better: map.")
    text = model_card(entry)
    assert "| map | 0.300 [0.200, 0.350] | 0.250 [0.100, 0.300] | no | 8 |" in text
    assert "| recall50 | 0.700 [0.600, 0.800] |  |  | 8 |" in text
    assert "| tumour, baseline | 0.100 [0.000, 0.200] | 0.250 [0.100, 0.300] | 0.200 [0.100, 0.300] |  |" in text
    assert "- froc: mean sensitivity at 1/8 to 8 false positives an image" in text


def test_what_no_direction_makes_better_is_not_judged(entry_facts):
    facts = entry_facts("unet3d-ct", "1.2.0")
    ours, theirs = ({"value": v, "low": v, "high": v, "n": 8} for v in (-5.0, 1.0))
    facts["evaluation"]["metrics"]["attention_entropy"] = ours
    facts["baseline"]["metrics"]["attention_entropy"] = theirs
    assert "attention_entropy" not in verdict(Entry.model_validate(facts))


def test_calibration_is_stated_before_and_after(entry_facts):
    ece = {"value": 0.2, "low": 0.1, "high": 0.3, "n": 8}
    said = {"temperature": 1.7, "split": "val", "ece_before": ece, "ece_after": {**ece, "value": 0.15}}
    text = model_card(Entry.model_validate(entry_facts("a", "1.0.0") | {"calibration": said}))
    assert "temperature of 1.70, fitted on the val split" in text
    assert "0.200 [0.100, 0.300] before, 0.150 [0.100, 0.300] after" in text


def test_calibration_of_masks_is_stated(entry_facts):
    facts = entry_facts("a", "1.0.0")
    assert "nothing compared them with observed frequencies" in model_card(Entry.model_validate(facts))
    masks = {"error": 0.04, "low": 0.03, "high": 0.05, "cases": 12, "by_class": {"liver": 0.02, "vessel": 0.06}}
    facts["options"] = {"calibration": masks, "cases": 12, "patients": 12}
    text = model_card(Entry.model_validate(facts))
    assert "calibration error is 0.040 [0.030, 0.050]" in text
    assert "12 cases on the val split: liver 0.020, vessel 0.060.\n" in text
    assert "nothing compared" not in text


def test_pictures_of_failures_come_first_and_say_what_they_are(entry_facts):
    facts = entry_facts("a", "1.0.0")
    pin = facts["files"]["recipe.yaml"]
    facts["files"] |= {f"pictures/{name}.png": pin for name in ("curves", "test-roc", "test-best", "test-worst")}
    text = model_card(Entry.model_validate(facts))
    order = [text.index(f"![{name}]") for name in ("test-worst", "test-best", "test-roc", "curves")]
    assert order == sorted(order)
    assert "The test case with the worst result" in text


def test_an_undefined_metric_is_said_to_be():
    assert format_metric(Metric(value=None, low=None, high=None, n=0, n_undefined=4)) == "undefined"


def test_a_bar_in_a_name_does_not_break_a_table(entry):
    odd = entry.model_copy(update={"classes": {1: "a|b"}})
    assert "1 a\\|b" in model_card(odd)


def test_each_channel_has_its_file_and_its_intensity(entry):
    schemes = [{"type": "hu_window", "low": -150, "high": 250}, {"type": "zscore"}]
    text = model_card(entry.model_copy(update={"channels": ["ct", "pet"], "intensity": schemes}))
    assert "cphloc predict unet3d-ct@1.2.0 ct=ct.nii.gz,pet=pet.nii.gz --out out" in text
    assert "| intensity | hu_window (low -150, high 250); zscore |" in text


def test_the_card_gives_the_reason_for_each_metric_and_the_tolerance(entry_facts):
    facts = entry_facts("unet3d-ct", "1.2.0")
    assert "Judge it by" not in model_card(Entry.model_validate(facts))
    reasons = recommended({"dice", "nsd"}, 1.0, {"tumour": 2.5})
    facts["evaluation"] |= {"recommended": reasons, "nsd_tolerance_mm": {"tumour": 2.5}}
    entry = Entry.model_validate(facts)
    assert Entry.parse(entry.to_yaml().encode(), "entry.yaml").evaluation.nsd_tolerance_mm == {"tumour": 2.5}
    assert "- `nsd`: share of the boundary within what two experts differ by, here taken as 2.5 mm for tumour" in (
        model_card(entry)
    )


def test_the_card_compares_the_attention_with_other_maps_where_that_was_measured(entry_facts):
    facts = entry_facts("unet3d-ct", "1.2.0")
    assert "## Explanation" not in model_card(Entry.model_validate(facts))
    of = {"value": 0.25, "low": 0.125, "high": 0.5, "n": 8}
    methods = {method: {"pointing": of, "deletion": of} for method in ("attention", "occlusion")}
    paired = {"occlusion": {"pointing": of | {"p_value": 0.5}}}
    facts["explanation"] = {"cases": 8, "methods": methods, "paired": paired, "similarity_to_random": of}
    text = model_card(Entry.model_validate(facts))
    assert "| occlusion | 0.250 [0.125, 0.500] |  | 0.250 [0.125, 0.500] |  |" in text
    assert "| attention - occlusion | 0.250 [0.125, 0.500] |" in text
    assert "map of random weights: 0.250 [0.125, 0.500]" in text
    assert "- deletion: area under the probability" in text
