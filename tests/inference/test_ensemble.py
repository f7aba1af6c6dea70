from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from brightness_model import SHAPE, Bright, Pixels, localizer

from cphloc.errors import DataError, InputError
from cphloc.inference.ensemble import Ensemble
from cphloc.inference.localizer import Localizer
from cphloc.inference.uncertainty import entropy
from cphloc.modeling.model import Model
from cphloc.ops.targets import Detections, Prediction
from cphloc.structures.fingerprint import Fingerprint, percentiles_of


class Says(Bright):
    """Predicts the same everywhere: foreground with probability ``p``, one box that begins at ``first``."""

    def __init__(self, p, first=2.0, score=0.8):
        super().__init__()
        self.p, self.first, self.score = p, first, score

    def decode(self, outputs):
        inside = torch.full_like(outputs.mean(dim=1), self.p)
        dims = inside.dim() - 1
        box = torch.tensor([[self.first] * dims + [self.first + 6.0] * dims])
        return Prediction(
            mask_probabilities=torch.stack([1 - inside, inside], 1),
            detections=[Detections(box, torch.tensor([self.score]), torch.tensor([1]))],
            attention=inside / inside.sum(),
            label_probabilities=torch.tensor([[self.p]]),
        )


def says(dims, *args, **data):
    recipe = localizer(dims, **data).recipe
    return Localizer(Model(Pixels(dims), None, {"all": Says(*args)}), recipe)


def predict(model, dims, **options):
    return model.predict(np.zeros(SHAPE[dims], np.float32), spacing_mm=(1.0,) * dims, **options)


@pytest.mark.parametrize("dims", [2, 3])
def test_probabilities_are_averaged_and_the_surer_member_decides(dims):
    members = [says(dims, p) for p in (0.9, 0.4, 0.3)]
    result = predict(Ensemble(members), dims)
    assert result.masks.all(), "two of three say background, but the mean of 0.9, 0.4, 0.3 is above one half"
    assert result.probabilities["bright"] == pytest.approx(1.6 / 3)
    assert result.attention.sum() == pytest.approx(1, abs=1e-5)
    assert not predict(Ensemble(members[1:]), dims).masks.any()


@pytest.mark.parametrize("dims", [2, 3])
def test_boxes_that_agree_are_merged_and_one_that_not_all_found_loses_score(dims):
    together = predict(Ensemble([says(dims, 0.5, 2.0), says(dims, 0.5, 3.0)]), dims)
    [box] = together.boxes
    np.testing.assert_allclose(box.voxels, [2.5] * dims + [8.5] * dims, atol=0.3)
    assert box.score == pytest.approx(0.8, abs=0.01)
    apart = predict(Ensemble([says(dims, 0.5, 0.0), says(dims, 0.5, 9.0)]), dims)
    assert [b.score for b in apart.boxes] == pytest.approx([0.4, 0.4], abs=0.01)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_merged_box_keeps_the_outline_of_the_surest_member_that_found_the_object(dims):
    class Outlines(Says):
        def decode(self, outputs):
            found = super().decode(outputs)
            masks = torch.full((1, *(6,) * dims), self.p)
            return replace(found, detections=[replace(found.detections[0], masks=masks)])

    surer, other = says(dims, 0.9, 2.0, 0.8), says(dims, 0.2, 3.0, 0.5)
    members = [Localizer(Model(Pixels(dims), None, {"all": Outlines(*a)}), surer.recipe) for a in ((0.9, 2.0, 0.8),)]
    result = predict(Ensemble([*members, other]), dims)
    assert (result.instances == 1).sum() == 6**dims
    assert (result.outlines, predict(Ensemble([*members, *members]), dims).outlines) == (False, True)
    assert predict(Ensemble([surer, other]), dims).instances is None


@pytest.mark.parametrize("dims", [2, 3])
def test_one_model_as_an_ensemble_says_what_it_says_alone(dims):
    image = np.zeros(SHAPE[dims], np.float32)
    image[(slice(4, 8),) * dims] = 1
    model = localizer(dims)
    alone, inside = (m.predict(image, (1.0,) * dims) for m in (model, Ensemble([model])))
    np.testing.assert_array_equal(inside.masks, alone.masks)
    assert (inside.boxes, inside.probabilities) == (alone.boxes, alone.probabilities)


@pytest.mark.parametrize("dims", [2, 3])
def test_uncertainty_is_the_entropy_and_is_saved_and_measured(dims, tmp_path):
    p = 0.8
    result = predict(says(dims, p), dims, uncertainty=True)
    expected = -(p * np.log2(p) + (1 - p) * np.log2(1 - p))
    np.testing.assert_allclose(result.uncertainty, expected, rtol=1e-3)
    assert result.measurements["bright"]["mean_uncertainty"] == pytest.approx(expected, rel=1e-3)
    written = {file.name for file in result.save(tmp_path)}
    assert "array_uncertainty.nii.gz" in written
    assert predict(says(dims, p), dims).uncertainty is None
    disagreeing = predict(Ensemble([says(dims, 0.95), says(dims, 0.05)]), dims, uncertainty=True)
    np.testing.assert_allclose(disagreeing.uncertainty, 1, rtol=1e-3)


def test_entropy_is_between_0_and_1_and_outside_the_image_0():
    probabilities = np.random.default_rng(0).dirichlet([0.5] * 4, 100).T
    found = entropy(probabilities)
    assert ((found >= 0) & (found <= 1)).all()
    np.testing.assert_allclose(entropy(3 * probabilities), found, rtol=1e-5)
    assert entropy(np.zeros((2, 3))).tolist() == [0, 0, 0]


def test_members_must_agree():
    with pytest.raises(InputError, match="at least one"):
        Ensemble([])
    with pytest.raises(InputError, match="same dims"):
        Ensemble([localizer(2), localizer(3)])
    with pytest.raises(InputError, match="same channels"):
        Ensemble([localizer(2), localizer(2, channels=("a", "b"))])
    other = localizer(2)
    other.classes = {1: "dark"}
    with pytest.raises(InputError, match="same classes"):
        Ensemble([localizer(2), other])
    sides = localizer(2, augment=[{"type": "Flip", "axes": [1]}])
    with pytest.raises(InputError, match="without Flip"):
        Ensemble([sides, localizer(2)]).mirrored_axes()


def test_a_temperature_makes_label_probabilities_less_certain():
    model = says(2, 0.9)
    model.temperature = 2.0
    assert predict(model, 2).probabilities["bright"] == pytest.approx(0.75)
    assert predict(Ensemble([model]), 2).probabilities["bright"] == pytest.approx(0.75)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("options", [{}, {"uncertainty": True}])
@pytest.mark.parametrize("spacing", [None, 1.3], ids=["own grid", "resampled"])
def test_a_threshold_is_the_least_score_of_a_box_and_the_least_probability_of_a_mask(dims, options, spacing):
    model = says(dims, 0.4, 2.0, 0.7, **({} if spacing is None else {"spacing_mm": [spacing] * dims}))
    plain = predict(model, dims, **options)
    assert (plain.masks.any(), len(plain.boxes), plain.thresholds) == (False, 1, {})
    for threshold, masked, boxes in ((0.3, True, 1), (0.39, True, 1), (0.41, False, 1), (0.71, False, 0)):
        found = predict(model, dims, threshold=threshold, **options)
        assert (found.masks.all(), len(found.boxes)) == (masked, boxes)
        assert found.summary()["thresholds"] == {"boxes": threshold, "mask": threshold}
    model.thresholds = {"boxes": 0.75}  # as an entry states it
    found = predict(model, dims, **options)
    assert (found.masks.any(), found.boxes) == (False, [])
    assert len(predict(model, dims, threshold=0.0, **options).boxes) == 1


def test_the_threshold_of_an_ensemble_is_the_mean_of_its_members():
    members = [says(2, 0.5), says(2, 0.5)]
    members[0].thresholds, members[1].thresholds = {"boxes": 0.5, "mask": 0.2}, {"boxes": 0.7}
    assert Ensemble(members).thresholds == {"boxes": pytest.approx(0.6)}
    assert len(predict(Ensemble(members), 2).boxes) == 1
    members[1].thresholds = {"boxes": 1.0, "mask": 0.9}
    found = predict(Ensemble(members), 2)
    assert found.masks is not None
    assert (found.masks.any(), len(found.boxes)) == (False, 1), "0.5 is below the mean 0.55, 0.8 above the mean 0.75"


@pytest.mark.parametrize("wrong", [-0.1, 1.5, {"mask": 2.0}, {"box": 0.5}])
def test_a_threshold_out_of_range_is_refused(wrong):
    with pytest.raises(InputError, match="between 0 and 1"):
        predict(says(2, 0.5), 2, threshold=wrong)
    with pytest.raises(InputError, match="between 0 and 1"):
        Ensemble([says(2, 0.5)]).check_options(threshold=wrong)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_result_names_every_member(dims):
    members = [says(dims, 0.9), says(dims, 0.7)]
    members[1].entry, members[1].weights_sha256 = SimpleNamespace(name="second", version="2.0.0"), "f" * 64
    result = predict(Ensemble(members), dims)
    assert [one["name"] for one in result.models] == [members[0].recipe.name, "second"]
    assert [one["weights_sha256"] for one in result.models] == [None, "f" * 64]
    assert result.model[0] == f"{members[0].recipe.name} + second"


@pytest.mark.parametrize("strange", [0, 1])
def test_the_image_is_compared_with_the_training_images_of_every_member(strange):
    image = np.random.default_rng(0).normal(size=SHAPE[2])
    extent = [float(n) for n in image.shape]
    members = [says(2, 0.9), says(2, 0.7)]
    (channel,) = members[0].inputs.channels
    for place, member in enumerate(members):
        near = Fingerprint.of([channel], [[percentiles_of(image + 99.0 * (place == strange))]] * 2, [extent] * 2, "px")
        member.inputs = replace(member.inputs, fingerprint=near)
    ensemble = Ensemble(members)
    (warning,) = ensemble.predict(image).warnings
    assert f"channel '{channel}': its values" in warning
    assert "far from those of the training images" in warning
    with pytest.raises(DataError, match="predict without strict"):
        ensemble.predict(image, strict=True)
    members[strange].inputs = replace(members[strange].inputs, fingerprint=None)
    (note,) = Ensemble(members).predict(image, strict=True).image.notes
    assert "strict could not check: intensities and extent" in note
