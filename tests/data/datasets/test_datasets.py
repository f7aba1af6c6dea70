import numpy as np
import pytest

from cphloc.data.case import read_case
from cphloc.data.dataset import Dataset, choose_channels, find_root, hashed_split
from cphloc.data.datasets.coco import Coco
from cphloc.data.datasets.hippocampus import Hippocampus
from cphloc.data.datasets.image_folder import ImageFolder
from cphloc.data.datasets.nnunet import NnUnet
from cphloc.data.datasets.phantom import PhantomCases
from cphloc.data.datasets.phantom_pair import PhantomPairs
from cphloc.data.datasets.voc import Voc
from cphloc.data.datasets.yolo import Yolo
from cphloc.data.fingerprint import check_splits
from cphloc.errors import InputError, NotFoundError
from cphloc.registry import catalogue
from cphloc.structures.split import SPLITS


@pytest.mark.parametrize("name", list(catalogue.cards("dataset")))
def test_card_names_a_data_set_with_typed_arguments(name):
    card = catalogue.card("dataset", name)
    assert issubclass(catalogue.resolve("dataset", name), Dataset)
    assert all(argument.meaning for argument in catalogue.arguments(card))
    assert card.licence
    assert card.citation


@pytest.mark.parametrize("make", [lambda: Hippocampus("sample"), lambda: PhantomCases((48, 48), cases={"train": 6})])
def test_shipped_data_read_and_split_by_patient(make):
    dataset = make()
    check_splits(dataset)
    for split in SPLITS:
        cases = dataset.cases(split)
        assert cases
        assert [c.id for c in cases] == [c.id for c in dataset.cases(split)]
        volume, annotation = read_case(cases[0], dataset.dims)
        done = annotation.completed(volume.geometry.shape, len(dataset.classes))
        assert done.label.shape == (len(dataset.classes),)


def test_hippocampus_sample_holds_both_classes_at_one_millimetre():
    volume, annotation = read_case(Hippocampus("sample").cases("test")[0], 3)
    done = annotation.completed(volume.geometry.shape, 2)
    assert volume.geometry.spacing_mm == (1.0, 1.0, 1.0)
    assert done.label.tolist() == [1, 1]


@pytest.mark.parametrize("size", [(40, 40), (10, 40, 40)])
def test_a_pair_of_phantoms_has_a_prior_scan_without_the_objects_of_its_mask(size):
    pairs = PhantomPairs(size, voxel_mm=(1.0,) * len(size), diameter_mm=(6, 8), cases={"train": 8}, positive=1.0)
    volumes, masks = zip(
        *((v.array.astype(float), a.mask) for v, a in map(read_case, pairs.cases("train"))), strict=True
    )
    assert {v.shape for v in volumes} == {(2, *size)}
    new = [(v[0] - v[1])[m > 0].mean() for v, m in zip(volumes, masks, strict=True) if m.any()]
    assert 0 < len(new) < 8
    assert min(new) > 2 * 15
    assert PhantomCases(size, cases={"train": 1}).channels == ("ct",)


def test_phantoms_that_touch_have_an_instance_for_each_box():
    touching = PhantomCases(
        (64, 64), objects=(5, 5), diameter_mm=(8, 10), positive=1.0, touching=True, cases={"train": 2}
    )
    for case in touching.cases("train"):
        _, found = read_case(case)
        assert len(found.boxes) == 5
        assert found.box_instances.tolist() == sorted(set(np.unique(found.instances)) - {0})
        for box, number in zip(found.boxes, found.box_instances, strict=True):
            at = np.argwhere(found.instances == number)
            assert box.tolist() == [*at.min(0), *(at.max(0) + 1)]


def test_phantom_annotates_the_fractions_that_were_asked():
    dataset = PhantomCases((48, 48), cases={"train": 20}, annotated={"region": 0.8, "boxes": 0.5, "mask": 0.1})
    sources = [case.annotation for case in dataset.cases("train")]
    assert sum(m.mask is not None for m in sources) == 2
    assert sum(m.boxes is not None for m in sources) == 8
    assert sum(m.region is not None for m in sources) == 6
    assert all(m.label is not None for m in sources)
    assert all(case.annotation.mask is not None for case in dataset.cases("test"))


def test_unknown_split_is_named():
    with pytest.raises(InputError, match=r"split 'tset' does not exist.*did you mean 'test'"):
        Hippocampus("sample").cases("tset")


def test_missing_data_name_every_folder_searched(tmp_path, monkeypatch):
    monkeypatch.setenv("CPHLOC_DATA", str(tmp_path))
    with pytest.raises(NotFoundError) as error:
        find_root("busi", None, "cases.csv")
    assert f"'{tmp_path / 'busi'}'" in str(error.value)
    assert "cphloc data fetch busi" in str(error.value)
    (tmp_path / "busi").mkdir()
    (tmp_path / "busi/cases.csv").touch()
    assert find_root("busi", None, "cases.csv") == tmp_path / "busi"


@pytest.mark.parametrize("make", [Coco, NnUnet, Voc, Yolo])
def test_ones_own_missing_folder_is_not_to_be_downloaded(make, tmp_path):
    with pytest.raises(NotFoundError, match=r"set data\.root to your folder") as error:
        make(str(tmp_path / "nowhere"))
    assert "fetch" not in str(error.value)


def test_a_folder_without_table_says_how_to_do_without(tmp_path):
    with pytest.raises(NotFoundError, match=r"no 'cases\.csv' in .*write data\.table: null") as error:
        ImageFolder(str(tmp_path))
    assert "fetch" not in str(error.value)


def test_hashed_splits_have_the_fractions_asked_and_never_change():
    splits = [hashed_split(f"patient {i}", 0.2, 0.1) for i in range(2000)]
    assert 0.17 < splits.count("val") / 2000 < 0.23
    assert 0.08 < splits.count("test") / 2000 < 0.12
    assert splits[:5] == [hashed_split(f"patient {i}", 0.2, 0.1) for i in range(5)]


def test_channels_are_checked():
    with pytest.raises(InputError, match=r"channel 'pett' does not exist.*did you mean 'pet'"):
        choose_channels(["pett"], ("ct", "pet"))
    with pytest.raises(InputError, match="channels must be distinct"):
        choose_channels(["ct", "ct"], ("ct", "pet"))
