import shutil

import numpy as np
import pytest

from cphloc.data.case import read_case
from cphloc.data.datasets.hippocampus import SAMPLE, Hippocampus
from cphloc.data.datasets.phantom import PhantomCases
from cphloc.data.fingerprint import check_splits, content_hash, fingerprint
from cphloc.data.pipeline.intensity import parse_intensity
from cphloc.data.pipeline.pipeline import Pipeline, open_dataset
from cphloc.data.pipeline.prepare import prepare
from cphloc.data.pipeline.preprocess import Preprocess
from cphloc.errors import DataError, InputError
from cphloc.recipe.fields import Data
from cphloc.structures.boxes import boxes_of


@pytest.fixture
def sample(tmp_path):
    """A copy of six shipped cases that may be damaged."""
    folder = shutil.copytree(SAMPLE, tmp_path / "hippocampus")
    train = [f"hippocampus_{number},train" for number in (165, 320, 221, 252)]
    rows = ["case,split", *train, "hippocampus_171,val", "hippocampus_149,test"]
    (folder / "cases.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_trains_on_the_shipped_cases_and_validates_whole_volumes():
    pipeline = Pipeline(Hippocampus("sample"), (24, 32, 24), augment=[{"type": "Affine"}], workers=0)
    batch = next(iter(pipeline.batches(2)))
    assert batch.image.shape == (2, 1, 24, 32, 24)
    assert batch.targets.has_mask.all()
    assert set(batch.targets.masks.unique().tolist()) <= {0, 1, 2}
    validation = pipeline.cases("val")[0]
    volume, annotation = read_case(pipeline.dataset.cases("val")[0])
    assert validation.source.same_grid(volume.geometry)
    assert abs(float(validation.image.mean())) < 1e-4
    assert np.bincount(validation.annotation.mask.ravel()).tolist() == np.bincount(annotation.mask.ravel()).tolist()


def test_whole_images_keep_their_proportions(tmp_path):
    dataset = PhantomCases((30, 60), cases={"train": 2, "val": 1, "test": 0}, diameter_mm=(6, 8), positive=1)
    pipeline = Pipeline(dataset, (20, 20), fit="whole", workers=0, foreground=0)
    (validation,) = pipeline.cases("val")
    assert validation.image.shape == (1, 10, 20)
    boxes = boxes_of(read_case(dataset.cases("val")[0])[1].mask)[0]
    carried = validation.source.boxes_to(validation.geometry, boxes)
    np.testing.assert_allclose(carried, boxes / 3, atol=1e-5)
    assert next(iter(pipeline.batches(2))).image.shape == (2, 1, 20, 20)


@pytest.mark.parametrize("size", [(40, 40), (12, 40, 40)])
def test_mixes_cases_with_a_label_a_region_boxes_or_a_mask(size):
    annotated = {"region": 0.75, "boxes": 0.5, "mask": 0.25}
    shape = {
        "diameter_mm": (6, 7),
        "objects": (1, 1),
        "distractors": (0, 0),
        "cases": {"train": 8, "val": 0, "test": 0},
    }
    pipeline = Pipeline(PhantomCases(size, annotated=annotated, **shape), size, workers=0, foreground=0)
    targets = next(iter(pipeline.batches(8))).targets
    assert targets.has_label.all()
    assert (int(targets.has_mask.sum()), int(targets.has_boxes.sum()), int(targets.has_region.sum())) == (2, 4, 6)


def test_every_bad_case_is_named_before_the_first_step(sample):
    truncated, missing = sample / "images/hippocampus_165.nii.gz", sample / "labels/hippocampus_221.nii.gz"
    truncated.write_bytes(truncated.read_bytes()[:5000])
    missing.unlink()
    with pytest.raises(DataError) as error:
        Pipeline(Hippocampus(str(sample)), (16, 16, 16), workers=0).cases("train")
    lines = str(error.value).splitlines()
    assert lines[0] == "2 of 4 cases cannot be used; repair them, or set data.skip_bad: true to exclude them"
    assert str(truncated) in lines[1]
    assert str(missing) in lines[2]
    assert len(lines) == 3


def test_goes_on_without_bad_cases_only_when_told_and_says_so(sample, capsys):
    (sample / "images/hippocampus_165.nii.gz").write_bytes(b"")
    cases = Pipeline(Hippocampus(str(sample)), (16, 16, 16), workers=0, skip_bad=True).cases("train")
    assert [c.id for c in cases] == ["hippocampus_320", "hippocampus_221", "hippocampus_252"]
    assert "1 of 4 cases cannot be used and are excluded:\ncase 'hippocampus_165'" in capsys.readouterr().err
    (reason,) = cases.left_out
    assert reason == f"case 'hippocampus_165': {sample / 'images/hippocampus_165.nii.gz'}: is empty (0 bytes); " + (
        "copy or export it again"
    )


def test_a_mask_of_other_classes_is_named_with_its_file(sample):
    case = Hippocampus(str(sample)).cases("train")[0]
    with pytest.raises(DataError) as error:
        prepare([case], Preprocess(3, None, parse_intensity("zscore", 1)), classes=1)
    assert f"{case.annotation.mask}: mask holds class 2 but only 1..1 are declared" in str(error.value)


def test_constants_of_intensity_come_from_the_training_foreground():
    dataset = PhantomCases(
        (48, 48), cases={"train": 4, "val": 0, "test": 0}, positive=1, contrast=20, diameter_mm=(6, 8)
    )
    (scheme,) = Pipeline(dataset, (16, 16), intensity="ct").intensity
    read = (read_case(case) for case in dataset.cases("train"))
    inside = np.concatenate([volume.array[0][annotation.mask > 0] for volume, annotation in read])
    assert scheme.mean == pytest.approx(inside.mean(), rel=1e-6)
    assert (scheme.low, scheme.high) == pytest.approx(np.percentile(inside, (0.5, 99.5)), rel=1e-6)


def test_a_test_case_in_training_is_an_error(sample):
    table = sample / "cases.csv"
    table.write_text(table.read_text() + "hippocampus_149,train\n")
    with pytest.raises(DataError, match="case 'hippocampus_149' is in train and in test"):
        check_splits(Hippocampus(str(sample)))


def test_fingerprint_tells_content_from_place(sample, tmp_path):
    def of(root) -> str:
        return fingerprint((c.id, content_hash(c)) for c in Hippocampus(str(root)).cases("train"))

    copied, before = shutil.copytree(sample, tmp_path / "copy"), of(sample)
    image = copied / "images/hippocampus_165.nii.gz"
    assert of(copied) == before
    image.write_bytes(image.read_bytes() + b"\0")
    assert of(copied) != before


def test_recipe_names_its_data_set_with_its_arguments():
    dataset = open_dataset(Data(type="phantom", size=[32, 32], sides=True), dims=2)
    assert dataset.scene.size == (32, 32)
    assert dataset.laterality
    with pytest.raises(InputError, match="is 3-D but the recipe says dims: 2"):
        open_dataset(Data(type="hippocampus", root="sample"), dims=2)
    assert open_dataset(Data(type="hippocampus", root="sample", channels=["t1"]), dims=3).channels == ("t1",)
    with pytest.raises(InputError, match="data set 'hippocampus' always has the channels"):
        open_dataset(Data(type="hippocampus", root="sample", channels=["t2"]), dims=3)
    with pytest.raises(InputError, match="data set 'phantom' takes no root"):
        open_dataset(Data(type="phantom", root="here"), dims=3)


def test_patch_needs_the_axes_of_the_data():
    with pytest.raises(InputError, match=r"patch must be 3 positive sizes .* got \[16, 16\]"):
        Pipeline(Hippocampus("sample"), (16, 16))
