"""`check` finds what would keep a training from its first step: each case is tried on `prepare` as well."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from cphloc.errors import InputError
from cphloc.recipe.merge import parse_path
from cphloc.recipe.recipe import Recipe, load
from cphloc.training.check import check
from cphloc.training.preparation import prepare

pytestmark = pytest.mark.usefixtures("at_work")

BASE = {
    "task": "segmentation",
    "dims": 2,
    "data": {"type": "phantom", "size": [32, 32], "patch": [16, 16], "cases": {"train": 2, "val": 1, "test": 1}},
    "model": {
        "backbone": {"type": "conv_encoder", "widths": [4, 8]},
        "heads": {"mask": {"type": "unet", "classes": {1: "mass"}}},
    },
    "train": {"steps": 2, "optimizer": {"type": "AdamW", "lr": 1e-3}},
}

REFUSED = {
    "task without a head for it": ({"task": "detection"}, "task", "detection is 'ap50'"),
    "metric of another head": ({"train.best": "auc"}, "train.best", "no metric 'auc'"),
    "freeze matches nothing": ({"freeze": ["encoder.*"]}, "freeze", "'encoder.*' matches no parameter"),
    "freeze matches everything": ({"freeze": ["*"]}, "freeze", "leave at least one to train"),
    "lr_scale matches nothing": (
        {"train.optimizer.lr_scale": {"encoder.*": 0.1}},
        "train.optimizer.lr_scale",
        "'encoder.*' matches no parameter",
    ),
    "warm-up before one_cycle": (
        {"train.schedule": "one_cycle", "train.warmup_steps": 1},
        "train.warmup_steps",
        "its own warm-up",
    ),
    "no validation case": ({"data.cases": {"train": 2, "val": 0}}, "data", "no case in the split 'val'"),
    "no training case": ({"data.cases": {"train": 0, "val": 1}}, "data", "no case in the split 'train'"),
    "a root where none is taken": ({"data.root": "here"}, "data", "takes no root"),
    "a flip of sides": (
        {"data.sides": True, "data.augment": [{"type": "Flip", "axes": [1]}],
         "model.heads.mask.classes": ["left mass", "right mass"]},
        "data",
        "Flip",
    ),
    "one value per channel in training": (
        {"model.backbone.norm": "batch", "model.backbone.strides": [16, 1], "train.batch": 1},
        "data.patch",
        "more than 1 value per channel",
    ),
    "an argument out of range": ({"data.objects": [3, 1]}, "data", "0 <= low <= high"),
    "weights of a package that is not installed": (
        {"model.backbone": {"type": "timm", "name": "resnet10t", "weights": "package:no_such_package"},
         "data.patch": [32, 32]},
        "model.backbone",
        "'no_such_package' is not installed",
    ),
    "weights of an entry that does not exist": ({"from": "no-such-entry"}, "from", "no-such-entry"),
    "no patch": ({"data.patch": None}, "data", "no data.patch"),
}  # fmt: skip


def recipe(changes: dict[str, object]) -> Recipe:
    return load(copy.deepcopy(BASE), changes)


@pytest.mark.parametrize("case", REFUSED)
def test_what_train_refuses_check_finds(case):
    changes, path, text = REFUSED[case]
    (problem,) = check(recipe(changes)).problems
    assert problem.path == path
    assert problem.fix
    assert text in f"{problem.what}; {problem.fix}"
    stated = next((key for key in changes if key.startswith(path)), next(iter(changes)))
    assert problem.where.startswith(f"--set {stated}") or recipe(changes).tree.get(parse_path(path)) is not None
    with pytest.raises(InputError) as caught:
        prepare(recipe(changes))
    assert text in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"train.optimizer": {"type": "Adagrad", "lr": 0.1}},
        {"freeze": ["backbone.*"], "train.optimizer.lr_scale": {"heads.*": 0.5}},
        {"train.best": "hd95_mm"},
        {"data.patch": [15, 17]},
        {"data.patch": [32, 32], "data.fit": "whole"},
    ],
    ids=str,
)
def test_what_check_accepts_can_be_prepared(changes):
    checked = check(recipe(changes))
    assert (checked.problems, checked.unchecked) == ([], [])
    assert len(prepare(recipe(changes)).splits["val"]) == 1


def test_data_that_are_not_at_hand_are_said_to_be_unchecked_and_the_rest_is_checked(tiny):
    checked = check(load(tiny, {"data.root": "no-such-folder", "freeze": ["encoder.*"], "train.best": "dise"}))
    assert [problem.path for problem in checked.problems] == ["train.best", "freeze"]
    (unchecked,) = checked.unchecked
    assert "no 'cases.csv' in 'no-such-folder'" in unchecked
    assert unchecked.endswith("its classes, cases and files are not checked")


def test_files_that_are_missing_are_named(tiny, tmp_path):
    table = "case,split\n" + "".join(f"c{number},{split}\n" for number, split in enumerate(("train", "val", "test")))
    Path(tmp_path / "cases.csv").write_text(table)
    (problem,) = check(load(tiny, {"data.root": str(tmp_path)})).problems
    assert "case 'c0'" in problem.what
    assert "does not exist" in problem.what
