"""Data sets in which some classes or masks are unknown, written here in the layout of their folders and read back."""

import numpy as np
import pytest
import SimpleITK as sitk

from cphloc.data.case import read_case
from cphloc.data.datasets.brain_t1c import BrainT1c
from cphloc.data.datasets.busi import Busi
from cphloc.data.datasets.openkbp import ORGANS, OpenKbp
from cphloc.data.fingerprint import content_hash
from cphloc.errors import DataError, InputError
from cphloc.structures.rung import Rung


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path))


@pytest.fixture
def kbp(tmp_path):
    """One patient: organ n in slice n; the mandible was not contoured, the larynx is doubtful."""
    mask = np.zeros((9, 4, 4), np.uint8)
    for number in ORGANS:
        mask[number] = 0 if number == 5 else number
    write(tmp_path / "labels" / "pt_001.nii.gz", mask)
    write(tmp_path / "images" / "pt_001.nii.gz", np.zeros(mask.shape, np.int16))
    contoured = " ".join(name for number, name in ORGANS.items() if number != 5)
    (tmp_path / "cases.csv").write_text(f"case,split,contoured,doubtful\npt_001,train,{contoured},larynx\n")
    return tmp_path


def completed(dataset):
    (case,) = dataset.cases("train")
    volume, annotation = read_case(case, dataset.dims)
    return annotation.completed(volume.geometry.shape, len(dataset.classes)), case


def test_an_organ_without_a_contour_or_with_a_doubtful_one_is_unknown(kbp):
    done, case = completed(OpenKbp(str(kbp)))
    assert done.mask_known.tolist() == [True] * 4 + [False, False, True]
    np.testing.assert_array_equal(done.label, [1, 1, 1, 1, np.nan, np.nan, 1])
    assert sorted(np.unique(done.mask).tolist()) == [0, 1, 2, 3, 4, 7]
    with_doubtful, other = completed(OpenKbp(str(kbp), doubtful=True))
    assert with_doubtful.mask_known.tolist() == [True] * 4 + [False, True, True]
    assert content_hash(case) != content_hash(other)


def test_some_of_the_organs_can_be_numbered_anew(kbp):
    done, _ = completed(OpenKbp(str(kbp), classes={1: "mandible", 2: "brainstem"}))
    assert done.mask_known.tolist() == [False, True]
    assert done.mask[1].all()
    assert int(done.mask.max()) == 2
    assert int((done.mask > 0).sum()) == 16
    with pytest.raises(InputError, match="no class 'brain_stem'; did you mean 'brainstem'"):
        OpenKbp(str(kbp), classes={1: "brain_stem"})


def test_an_organ_that_the_table_misspells_is_named(kbp):
    table = kbp / "cases.csv"
    table.write_text(table.read_text().replace("larynx\n", "larinx\n"))
    with pytest.raises(DataError, match=r"cases.csv:2: doubtful names 'larinx', which is no organ of openkbp"):
        OpenKbp(str(kbp)).cases("train")


@pytest.fixture
def slices(tmp_path):
    names = [f"{number:04d}" for number in range(40)]
    for name in names:
        write(tmp_path / "images" / f"{name}.jpg", np.zeros((8, 8), np.uint8))
        write(tmp_path / "masks" / f"{name}.png", np.eye(8, dtype=np.uint8))
    kinds = ("meningioma", "glioma", "pituitary")
    rows = [f"{n},{kinds[i % 3]},{'train' if i < 30 else 'val'},p{i // 2}" for i, n in enumerate(names)]
    (tmp_path / "cases.csv").write_text("\n".join(["case,label,split,patient", *rows]) + "\n")
    return str(tmp_path)


def test_the_mask_has_the_class_of_the_label(slices):
    dataset = BrainT1c(slices)
    _, annotation = read_case(dataset.cases("train")[1], 2)
    assert annotation.label.tolist() == [0, 1, 0]
    np.testing.assert_array_equal(annotation.mask, 2 * np.eye(8))
    one = BrainT1c(slices, classes={1: "tumour"})
    assert all(read_case(c, 2)[1].mask.max() == 1 for c in one.cases("train")[:3])


def test_masks_of_some_patients_leave_validation_as_it_is(slices):
    dataset = BrainT1c(slices, masks=0.3)
    masked = [case for case in dataset.cases("train") if case.annotation.mask is not None]
    assert 0 < len(masked) < 15
    assert len({case.patient for case in masked}) == len(masked) / 2
    assert all(case.annotation.mask is not None for case in dataset.cases("val"))
    assert all(case.annotation.label is not None for case in dataset.cases("train"))


@pytest.mark.parametrize(("masks", "expected"), [("marked", 1), ("all", 2)])
def test_busi_uses_the_marked_masks_or_all(tmp_path, masks, expected):
    rows = ["benign_1,benign,1,0,train", "normal_2,normal,0,1,train"]
    (tmp_path / "cases.csv").write_text("\n".join(["case,class,has_mask,duplicate_cluster,split", *rows]) + "\n")
    sources = [case.annotation for case in Busi(str(tmp_path), masks=masks).cases("train")]
    assert sum(source.mask is not None for source in sources) == expected


def test_training_patients_are_annotated_to_the_stated_rungs_and_keep_their_label(slices):
    full, dataset = BrainT1c(slices), BrainT1c(slices, annotated={"region": 0.7, "boxes": 0.5, "mask": 0.2})
    read = {case.id: read_case(case, 2)[1] for case in dataset.cases("train")}
    rungs = {case.patient: read[case.id].rung for case in dataset.cases("train")}
    assert set(rungs.values()) == set(Rung)
    assert all(read[case.id].rung == rungs[case.patient] == case.annotation.rung for case in dataset.cases("train"))
    more = BrainT1c(slices, annotated={"mask": 0.6}).cases("train")
    assert {case.patient for case in more if case.annotation.rung == Rung.MASK} >= {
        patient for patient, rung in rungs.items() if rung == Rung.MASK
    }
    for case, whole in zip(dataset.cases("train"), full.cases("train"), strict=True):
        known = read_case(whole, 2)[1]
        assert read[case.id].label.tolist() == known.label.tolist()
        if rungs[case.patient] == Rung.BOXES:
            assert read[case.id].boxes.tolist() == [[0, 0, 8, 8]]
        if rungs[case.patient] < Rung.MASK:
            assert content_hash(case) != content_hash(whole)
    assert [case.annotation.limit for case in dataset.cases("val")] == [None] * 10


def test_organs_weakened_to_boxes_leave_unknown_what_was_not_contoured(kbp):
    (case,) = OpenKbp(str(kbp), annotated={"boxes": 1.0}).cases("train")
    _, found = read_case(case, 3)
    assert found.rung == Rung.BOXES
    assert found.boxes_known.tolist() == [True] * 4 + [False, False, True]
    assert sorted(found.box_classes.tolist()) == [1, 2, 3, 4, 7]


def test_busi_takes_rungs_too_and_names_itself_in_errors(tmp_path):
    rows = ["benign_1,benign,1,0,train", "normal_2,normal,0,1,train"]
    (tmp_path / "cases.csv").write_text("\n".join(["case,class,has_mask,duplicate_cluster,split", *rows]) + "\n")
    cases = Busi(str(tmp_path), masks="all", annotated={"label": 1.0}).cases("train")
    assert [case.annotation.rung for case in cases] == [Rung.LABEL, Rung.LABEL]
    with pytest.raises(InputError, match="busi: annotated must be fractions"):
        Busi(str(tmp_path), annotated={"boxes": 0.1, "mask": 0.5})
