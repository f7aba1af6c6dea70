"""Patients and splits that a plan proposes for a user's own data."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest
import yaml
from PIL import Image

from cphloc.cli import main
from cphloc.data.case import read_case
from cphloc.data.dataset import hashed_split
from cphloc.data.pipeline.pipeline import open_dataset
from cphloc.data.planning.patients import choose_seed, find_pattern
from cphloc.recipe.recipe import load


@pytest.mark.parametrize(
    ("names", "patients"),
    [
        (["p017_visit2", "p017_visit1", "p2_visit1"], {"p017", "p2"}),
        (["sub-01_ses-1_T1w", "sub-01_ses-2_T1w", "sub-02_ses-1_T1w"], {"sub-01", "sub-02"}),
        (["pt3_a", "pt3_b", "pt4_a"], {"pt3", "pt4"}),
        (["HIP1_left", "HIP1_right", "HIP2_left"], {"HIP1", "HIP2"}),
        (["a_1", "a_2", "b_1"], None),
        (["p1_visit1", "p2_visit1"], None),
        (["p1_visit1", "p1_visit2", "p2"], None),
        (["p1_visit1", "p1_visit2"], None),
    ],
)
def test_patients_are_found_in_names_only_where_it_is_sure(names, patients):
    pattern = find_pattern(names)
    assert (pattern is None) == (patients is None)
    if pattern is not None:
        assert {re.match(pattern, name)[1] for name in names} == patients


@pytest.mark.parametrize("count", [3, 7, 30, 200])
def test_no_split_is_empty_and_shares_are_as_wanted(count):
    patients = [f"p{k}" for k in range(count)]
    seed = choose_seed(patients, 0.15, 0.15)
    sizes = Counter(hashed_split(p, 0.15, 0.15, seed) for p in patients)
    assert abs(sizes["val"] - max(1, 0.15 * count)) <= max(0.5, 0.03 * count)
    assert sizes["test"] >= 1
    assert sizes["train"] > sizes["val"] or count == 3
    assert choose_seed(["one"], 0.15, 0.15) is None


def pictures(root, names, table=None):
    """A picture and a mask of each name."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in names:
        mask = np.zeros((32, 32), np.uint8)
        mask[8:20, 8:20] = 255
        Image.fromarray(rng.integers(0, 255, (32, 32)).astype(np.uint8)).save(root / f"images/{name}.png")
        Image.fromarray(mask).save(root / f"masks/{name}.png")
    if table is not None:
        (root / "cases.csv").write_text(table)


def planned(tmp_path, *more):
    out = tmp_path / "r.yaml"
    assert main(["plan", str(tmp_path / "data"), "--no-measure", "--out", str(out), *more]) == 0
    assert main(["check", str(out)]) == 0
    recipe = load(out)
    dataset = open_dataset(recipe.data, 2)
    return yaml.safe_load(out.read_text()), {s: dataset.cases(s) for s in ("train", "val", "test")}, out.read_text()


def test_a_folder_without_a_table_is_split_by_the_patients_in_its_names(tmp_path):
    pictures(tmp_path / "data", [f"p{k}_slice{n}" for k in range(9) for n in range(2)])
    recipe, splits, text = planned(tmp_path)
    assert recipe["data"]["root"] == "data"
    assert recipe["data"]["classes"] == {1: "object"}
    patients = {split: {case.patient for case in cases} for split, cases in splits.items()}
    assert sum(map(len, patients.values())) == 9
    assert all(len(splits[split]) == 2 * len(patients[split]) > 0 for split in splits)
    assert "patients   9, from the names of the cases" in text


def test_every_case_is_a_patient_where_names_say_nothing(tmp_path, capsys):
    pictures(tmp_path / "data", [f"{k:04d}" for k in range(6)])
    _, splits, _ = planned(tmp_path)
    assert all(splits.values())
    assert "every case counts as a patient of its own; if one has several, state it" in capsys.readouterr().out


def test_validation_is_held_out_of_train_where_a_table_states_none(tmp_path):
    names = [f"a{k}" for k in range(8)]
    rows = [f"images/{n}.png,masks/{n}.png,{'test' if n in ('a6', 'a7') else 'train'},q{int(n[1]) // 2}" for n in names]
    pictures(tmp_path / "data", names, "\n".join(["image,mask,split,patient", *rows]))
    _, splits, _ = planned(tmp_path)
    assert [case.id for case in splits["test"]] == ["a6", "a7"]
    assert len(splits["val"]) in (1, 2)
    assert not {c.patient for c in splits["val"]} & {c.patient for c in splits["train"]}


def test_binary_masks_are_of_the_class_in_the_label(tmp_path):
    names = [f"a{k}" for k in range(8)]
    rows = [f"images/{n}.png,masks/{n}.png,{'benign' if int(n[1]) % 2 else 'malignant'}" for n in names]
    pictures(tmp_path / "data", names, "\n".join(["image,mask,label", *rows]))
    recipe, splits, _ = planned(tmp_path)
    assert recipe["data"]["classes"] == {1: "benign", 2: "malignant"}
    assert list(recipe["model"]["heads"]) == ["mask", "finding"]
    for case in (case for cases in splits.values() for case in cases):
        assert read_case(case)[1].mask.max() == (1 if int(case.id[1]) % 2 else 2)


@pytest.mark.parametrize(
    ("names", "said"),
    [([], "contains no image"), (["a"], "has 1 patient with annotations; training and validation need one each")],
)
def test_folders_that_cannot_train_are_refused(tmp_path, capsys, names, said):
    pictures(tmp_path / "data", names)
    assert main(["plan", str(tmp_path / "data")]) == 2
    assert said in capsys.readouterr().err
    assert main(["plan", str(tmp_path / "nowhere")]) == 2
    assert "no folder and no data set is called like this" in capsys.readouterr().err
