"""Folds are of whole patients, stratified, independent of order, and those that a file states."""

from __future__ import annotations

import copy
import json
import re
from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from sklearn.model_selection import StratifiedGroupKFold

from cphloc.data.case import Case
from cphloc.data.datasets.phantom import PhantomCases
from cphloc.data.folds import divide, drawn, parse_fold, with_folds
from cphloc.data.presence import presence_of
from cphloc.errors import DataError, InputError
from cphloc.recipe.fields import Folds
from cphloc.recipe.recipe import load


def made(count: int = 60, seed: int = 0) -> tuple[list[Case], list[tuple[str, ...]]]:
    """Cases of patients with one to four cases each; one class is rare, one type of annotation is rarer."""
    rng = np.random.default_rng(seed)
    cases, presence = [], []
    for patient in range(count):
        rung = "mask" if rng.random() < 0.3 else "label"
        classes = ("1: mass", "2: cyst") if rng.random() < 0.15 else ("1: mass",)
        for number in range(rng.integers(1, 5)):
            cases.append(Case(f"p{patient}_{number}", f"p{patient}", (Path("x"),)))
            presence.append((rung, *classes))
    return cases, presence


def shares(cases, presence, number, folds: int = 5) -> dict[str, list[int]]:
    """Cases of each property by fold."""
    counts = [Counter() for _ in range(folds)]
    for case, properties in zip(cases, presence, strict=True):
        counts[number[case.patient]].update([*properties, "cases"])
    names = {name for count in counts for name in count}
    return {name: [count[name] for count in counts] for name in names}


@pytest.mark.parametrize("seed", range(5))
def test_every_fold_has_its_share_of_cases_classes_and_annotations(seed):
    cases, presence = made(seed=seed)
    found = shares(cases, presence, drawn(cases, presence, 5, seed=0))
    for name, counts in found.items():
        assert max(counts) - min(counts) <= 4, (name, counts)  # a patient has at most four cases
    groups, labels = [c.patient for c in cases], ["2: cyst" in p for p in presence]
    others = StratifiedGroupKFold(5, shuffle=True, random_state=0).split(cases, labels, groups)
    spread = np.std([sum(labels[i] for i in held_out) for _, held_out in others])
    assert np.std(found["2: cyst"]) <= spread + 0.5  # as even as scikit-learn's, which knows one property only


def test_the_order_of_the_cases_does_not_matter_and_the_seed_does():
    cases, presence = made()
    backwards = drawn(cases[::-1], presence[::-1], 5, seed=0)
    assert drawn(cases, presence, 5, seed=0) == backwards != drawn(cases, presence, 5, seed=1)


def test_no_fold_is_empty_where_patients_are_few_and_fewer_than_folds_are_refused():
    cases, presence = made(count=5)
    assert sorted(drawn(cases, presence, 5, seed=0).values()) == [0, 1, 2, 3, 4]
    with pytest.raises(DataError, match=r"6 folds need at least 6 patients, and .* are of 5; choose fewer folds"):
        drawn(cases, presence, 6, seed=0)


@pytest.fixture
def phantom(tmp_path, monkeypatch):
    """Twelve cases, some without an object and some with a label alone, and four test cases."""
    monkeypatch.setenv("CPHLOC_CACHE", str(tmp_path / "cache"))
    few = {"objects": (1, 1), "distractors": (0, 0), "diameter_mm": (4.0, 6.0)}
    return PhantomCases((24, 24), cases={"train": 8, "val": 4, "test": 4}, positive=0.5, annotated={"mask": 0.5}, **few)


def ids(dataset, split):
    return {case.id for case in dataset.cases(split)}


def test_folds_cover_training_and_validation_cases_once_and_never_the_test_cases(phantom):
    everything = ids(phantom, "train") | ids(phantom, "val")
    folds = [with_folds(phantom, Folds(fold=k, of=3)) for k in (1, 2, 3)]
    held_out = [ids(fold, "val") for fold in folds]
    assert set.union(*held_out) == everything
    assert not any(a & b for a, b in combinations(held_out, 2))
    for fold, held in zip(folds, held_out, strict=True):
        assert ids(fold, "train") == everything - held
        assert ids(fold, "test") == ids(phantom, "test")


def test_presence_is_what_the_files_hold(phantom):
    for case in phantom.cases("train"):
        drawn_objects = json.loads((case.images[0].parent / "facts.json").read_text())["box_classes"]
        expected = {"mask" if case.annotation.mask else "label", *(["1: mass"] if drawn_objects else [])}
        assert set(presence_of(case, phantom)) == expected == set(presence_of(case, phantom))  # read, then cached


def with_patients(dataset, pattern):
    """The data set of a recipe that states ``data.patient``."""
    named = copy.copy(dataset)
    named.patient = re.compile(pattern)
    return named


BY_LAST = r"phantom_(?:train_000|val_000)?(.+)"
"""train_0001 and val_0001 are of patient 1; every test case is of a patient of its own."""


def test_patients_by_name_stay_together(phantom):
    named = with_patients(phantom, BY_LAST)
    for train, val in (divide(named, Folds(of=4)).split(k) for k in (1, 2, 3, 4)):
        assert {"0", "1", "2", "3"} & {case.patient for case in (*train, *val)}
        assert not {case.patient for case in train} & {case.patient for case in val}


def test_few_patients_and_patients_with_test_cases_are_refused(phantom):
    with pytest.raises(DataError, match="9 folds need at least 9 patients"):
        divide(with_patients(phantom, BY_LAST), Folds(of=9))
    with pytest.raises(DataError, match="patient '0' has test cases and others"):
        divide(with_patients(phantom, r".*(\d)$"), Folds(of=2))


def test_a_pattern_that_finds_nobody_is_refused(phantom):
    with pytest.raises(InputError, match="finds no patient in the name of case 'phantom_train_0000'"):
        with_patients(phantom, r"(sub-\d+)").cases("train")


def test_the_log_says_whether_patients_are_known(phantom, capsys):
    with_folds(phantom, Folds(fold=1, of=3)).cases("val")
    assert "folds: every case counts as a patient" in capsys.readouterr().err
    with_folds(with_patients(phantom, BY_LAST), Folds(fold=1, of=3)).cases("val")
    said = capsys.readouterr().err
    assert "every case counts" not in said
    assert "fold 1/3: " in said


def written(tmp_path, *folds) -> Folds:
    path = tmp_path / "splits_final.json"
    path.write_text(json.dumps([{"train": train, "val": val} for train, val in folds]))
    return Folds(fold=1, of=len(folds), splits=str(path))


def names(split, *numbers):
    return [f"phantom_{split}_{number:04d}" for number in numbers]


def test_the_folds_of_nnunet_are_taken_as_they_are(phantom, tmp_path):
    first, second = names("train", 0, 1, 2), names("val", 0, 3)
    stated = written(tmp_path, (first, second), (second, first))
    fold = with_folds(phantom, stated)
    assert (ids(fold, "train"), ids(fold, "val")) == (set(first), set(second))
    other = with_folds(phantom, stated.model_copy(update={"fold": 2}))
    assert (ids(other, "train"), ids(other, "val")) == (set(second), set(first))


def test_stated_folds_that_cannot_be_meant_are_refused(phantom, tmp_path):
    a, b, test = names("train", 0, 1), names("val", 0, 1), names("test", 0)
    wrong = {
        "fold 1: 'phantom_test_0000' is a test case; correct the file": [(a, test), (b, a)],
        "fold 2: 'x' is not a training or validation case": [(a, b), (["x"], a)],
        "patient 'phantom_train_0001' is in train and in val": [(a, [*b, a[1]]), (b, a)],
        "fold 1: train and val must both have cases": [(a, []), (b, a)],
    }
    for message, folds in wrong.items():
        with pytest.raises(DataError, match=message):
            divide(phantom, written(tmp_path, *folds))
    stated = written(tmp_path, (a, b), (b, a))
    with pytest.raises(DataError, match="states 2 folds, not 5; use --fold 1/2 to 2/2, or --cross-validate 2"):
        divide(phantom, stated.model_copy(update={"of": 5}))
    with pytest.raises(DataError, match="case 'phantom_train_0000' is held out in 2 folds"):
        divide(phantom, written(tmp_path, (b, a), (b, a))).check_disjoint()
    (tmp_path / "splits_final.json").write_text("{")
    with pytest.raises(DataError, match="must be a list of folds"):
        divide(phantom, stated)


@pytest.mark.parametrize("text", ["0/5", "6/5", "1/1", "1", "a/b", "-1/5", "1/5/5"])
def test_a_fold_that_does_not_exist_is_refused(text):
    with pytest.raises(InputError, match="a fold is written k/n"):
        parse_fold(text)


def test_a_recipe_states_its_folds_and_where_their_file_is(tmp_path, tiny):
    assert load(tiny).fold is None
    assert load(load(tiny), {"data.folds.fold": 2, "data.folds.of": 4}).fold == 2
    with pytest.raises(InputError, match="fold 6 of 5 does not exist"):
        load(tiny, {"data.folds.fold": 6})
