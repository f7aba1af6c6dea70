import json

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from brightness_model import SHAPE, SPACING, Bright, localizer

from cphloc.errors import DataError, InputError
from cphloc.ops.targets import Prediction


def scan(dims, path):
    """An image that is flipped and has its axes in another order than the patient's; and its object."""
    array = np.zeros(SHAPE[dims], np.float32)
    array[(slice(4, 8),) * dims] = 1
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(SPACING[dims][::-1])
    image.SetOrigin((10.0, -20.0, 30.0)[:dims])
    image.SetDirection([0, -1, 1, 0] if dims == 2 else [0, 0, -1, 1, 0, 0, 0, -1, 0])
    sitk.WriteImage(image, str(path))
    return array > 0, image


@pytest.mark.parametrize("dims", [2, 3])
def test_everything_comes_back_on_the_grid_of_the_input(dims, tmp_path):
    truth, _ = scan(dims, tmp_path / "scan.mha")
    found = localizer(dims).predict(tmp_path / "scan.mha")
    assert np.array_equal(found.masks == 1, truth)
    assert found.boxes[0].voxels == pytest.approx([4.0] * dims + [8.0] * dims)
    assert found.attention.shape == SHAPE[dims]
    assert found.attention[truth].sum() == pytest.approx(1, abs=1e-5)
    assert found.probabilities == {"bright": 0.75}


@pytest.mark.parametrize("dims", [2, 3])
def test_a_box_in_millimetres_encloses_the_corners_that_simpleitk_gives(dims, tmp_path):
    _, image = scan(dims, tmp_path / "scan.mha")
    (box,) = localizer(dims).predict(tmp_path / "scan.mha").boxes
    ends = [[3.5] * dims, [7.5] * dims]
    corners = np.array(
        [
            image.TransformContinuousIndexToPhysicalPoint([ends[b][a] for a, b in enumerate(choice)])
            for choice in np.ndindex(*(2,) * dims)
        ]
    )
    assert box.mm == pytest.approx([*corners.min(0), *corners.max(0)])


@pytest.mark.parametrize("dims", [2, 3])
def test_another_spacing_and_back_keeps_the_box_within_half_a_voxel(dims, tmp_path):
    scan(dims, tmp_path / "scan.mha")
    found = localizer(dims, spacing_mm=[1.3] * dims).predict(tmp_path / "scan.mha")
    assert np.abs(np.array(found.boxes[0].voxels) - ([4.0] * dims + [8.0] * dims)).max() <= 0.5


@pytest.mark.parametrize("dims", [2, 3])
def test_size_is_measured_in_physical_units(dims, tmp_path):
    truth, _ = scan(dims, tmp_path / "scan.mha")
    sizes = localizer(dims).predict(tmp_path / "scan.mha").measurements["bright"]
    volume = truth.sum() * np.prod(SPACING[dims])
    expected = {"area_mm2": volume} if dims == 2 else {"volume_ml": volume / 1000}
    assert {key: value for key, value in sizes.items() if "diameter" not in key} == pytest.approx(expected)


def test_an_image_without_physical_size_is_measured_in_pixels():
    sizes = localizer(2).predict(np.ones((6, 5), np.float32)).measurements["bright"]
    assert sizes["area_px2"] == 30
    assert not [key for key in sizes if "mm" in key]


def test_channels_are_taken_by_name_whatever_their_order(tmp_path):
    bright, dark = np.ones((8, 8), np.float32), np.zeros((8, 8), np.float32)
    bright[0] = 0
    seen = []
    model = localizer(2, channels=("ct", "pet"))
    model.model.backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0].clone()))
    model.predict({"pet": bright, "ct": bright + dark * 0.5})
    model.predict({"ct": bright + dark * 0.5, "pet": bright})
    assert torch.equal(*seen)
    with pytest.raises(DataError, match="takes the channels ct, pet, got ct"):
        model.predict({"ct": bright})


def test_a_list_gives_a_list():
    images = [np.pad(np.ones((4, 4), np.float32), n) for n in (1, 3)]
    assert [r.masks.shape for r in localizer(2).predict(images)] == [(6, 6), (10, 10)]


def test_mirroring_is_refused_for_a_model_that_tells_left_from_right(monkeypatch):
    from cphloc.recipe.recipe import Recipe

    monkeypatch.setattr(Recipe, "laterality", property(lambda self: True))
    image = np.ones((4, 4), np.float32)
    with pytest.raises(InputError, match="sides of the body"):
        localizer(2, augment=[{"type": "Flip"}]).predict(image, tta=True)
    localizer(2, augment=[{"type": "Flip", "axes": [0]}]).predict(image, tta=True)
    exchanging = localizer(2, augment=[{"type": "Flip", "swap": {1: 2}}])
    assert exchanging.mirrored_axes() == (0, 1)
    assert exchanging.swapped_classes() == {1: 2, 2: 1}


@pytest.mark.parametrize(("flip", "axes"), [({}, (0, 1)), ({"axes": [-1]}, (1,))])
def test_mirrored_views_are_those_that_training_saw(monkeypatch, flip, axes):
    seen = []

    def infer(model, image, patch, overlap, mirror, progress, **_):
        seen.append(mirror)
        return {}

    monkeypatch.setattr("cphloc.inference.localizer.infer", infer)
    localizer(2, augment=[{"type": "Flip", **flip}]).predict(np.ones((4, 4), np.float32), tta=True)
    assert seen == [axes]
    with pytest.raises(InputError, match="trained without Flip"):
        localizer(2).predict(np.ones((4, 4), np.float32), tta=True)


def test_two_heads_of_one_kind_are_refused():
    model = localizer(2)
    model.model.heads["again"] = Bright()
    with pytest.raises(InputError, match="two heads predict masks"):
        model.predict(np.ones((4, 4), np.float32))


@pytest.mark.parametrize("dims", [2, 3])
def test_saving_writes_each_part_and_it_reads_back(dims, tmp_path):
    truth, _ = scan(dims, tmp_path / "scan.mha")
    files = {p.name for p in localizer(dims).predict(tmp_path / "scan.mha").save(tmp_path / "out")}
    mask = "scan_mask.png" if dims == 2 else "scan_mask.nii.gz"
    boxes = {"scan_boxes.csv", "scan_boxes.json"} if dims == 2 else {"scan_boxes.csv"}
    assert files == {mask, "scan_attention.nii.gz", *boxes, "scan_result.json", "scan_overlay.png"}
    written = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out" / mask)))
    assert np.array_equal(written > 0, truth)
    facts = json.loads((tmp_path / "out" / "scan_result.json").read_text())
    assert [facts["boxes"][0][key] for key in ("name", "number")] == ["bright", 1]


@pytest.mark.parametrize("dims", [2, 3])
def test_air_around_a_patient_is_background_and_can_be_kept(dims):

    class BrightMask(Bright):
        def decode(self, outputs):
            inside = (outputs.mean(dim=1) > 0).float()
            return Prediction(mask_probabilities=torch.stack([1 - inside, inside], 1))

    array = np.full((40,) * dims, -1000.0, np.float32)
    array[(slice(14, 22),) * dims] = 100.0
    intensity = {"type": "ct", "low": -1000.0, "high": 200.0, "mean": 0.0, "std": 500.0}
    model = localizer(dims, intensity=intensity, patch=[16] * dims)
    model.model.heads["all"] = BrightMask()
    seen = []
    model.model.backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape))
    skipped = model.predict(array)
    few = len(seen)
    kept = model.predict(array, skip_air=False)
    assert few < len(seen) - few
    assert np.array_equal(skipped.masks, kept.masks)
    assert np.array_equal(skipped.masks == 1, array > 0)
    assert (skipped.computed["air_skipped"], kept.computed["air_skipped"]) == (True, False)


def test_an_overlap_outside_its_range_is_refused():
    with pytest.raises(InputError, match="overlap is a fraction of a window"):
        localizer(2).predict(np.ones((4, 4), np.float32), overlap=1.0)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_outputs_that_are_not_finite_are_refused_and_name_the_image(dims, value, tmp_path):
    scan(dims, tmp_path / "scan.mha")
    model = localizer(dims)
    with torch.no_grad():
        model.model.backbone.weight.fill_(value)
    with pytest.raises(DataError, match=r"scan\.mha: the outputs of head 'all' are not finite"):
        model.predict(tmp_path / "scan.mha")
    with pytest.raises(DataError, match="not finite"):
        model.predict_maps(model.read(tmp_path / "scan.mha"))
