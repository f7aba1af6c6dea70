"""Every component that a recipe can name trains one step, one change from a small recipe each; new cards included."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch

from cphloc.recipe.recipe import Recipe, load
from cphloc.registry import catalogue
from cphloc.registry.card import Card
from cphloc.training.check import check
from cphloc.training.fit import fit
from cphloc.training.preparation import prepare

pytestmark = pytest.mark.usefixtures("at_work")

KINDS = ("backbone", "neck", "head", "loss", "transform", "intensity", "optimizer", "schedule")

BASE: dict[str, Any] = {
    "name": "base",
    "task": "segmentation",
    "dims": 2,
    "data": {
        "type": "phantom",
        "size": [32, 32],
        "patch": [32, 32],
        "cases": {"train": 2, "val": 1, "test": 0},
        "positive": 1.0,
        "workers": 0,
    },
    "model": {
        "backbone": {"type": "conv_encoder", "widths": [4, 8]},
        "heads": {"only": {"type": "unet", "classes": {1: "mass"}}},
    },
    "train": {"steps": 1, "precision": "32", "optimizer": {"type": "AdamW", "lr": 1e-3}},
}

NEEDED: dict[tuple[str, str], dict[str, Any]] = {
    ("backbone", "mlp"): {"size": [32, 32]},
    ("backbone", "residual_encoder"): {"widths": [4, 8]},
    ("backbone", "timm"): {"name": "test_resnet"},
    ("head", "rcnn"): {"proposal_sizes": [[16, 16]]},
    ("head", "smp_unet"): {"widths": [8, 4]},
    ("intensity", "fixed"): {"mean": 100.0, "std": 50.0},
}
"""Arguments that a card has no default for, or that make it small enough for this test."""

DATA: dict[tuple[str, str], dict[str, Any]] = {
    ("backbone", "monai_swin_unetr"): {"size": [64, 64], "patch": [64, 64]},
    ("backbone", "siamese"): {"type": "phantom_pair"},
}
"""Data that a card needs beside those of the small recipe: a larger patch, or two scans."""

SMALL = {"channels": 16, "width": 8}
"""Values of arguments that many heads have."""

HEADS = {
    "mask": ("unet", "loss"),
    "scores": ("retina", "loss"),
    "boxes": ("retina", "box_loss"),
    "attention": ("attention_pool", "loss"),
}
"""By what a loss takes, a head that gives it and the argument that names the loss."""

BEST = {"mask": "dice", "boxes": "ap50", "labels": "auc", "attention": "attention_mass"}

WHOLE_NETWORKS = ("monai_network", "monai_retinanet", "torchvision_detector")
"""Networks of other frameworks for imported weights, which take the image itself; the last two only predict."""

CARDS = [card for kind in KINDS for card in catalogue.cards(kind).values() if card.name not in WHOLE_NETWORKS]


def block(card: Card) -> dict[str, Any]:
    return {"type": card.name, **NEEDED.get((card.kind, card.name), {})}


def head(name: str, **arguments: Any) -> dict[str, Any]:
    card = catalogue.card("head", name)
    best = next(BEST[word] for word in card.gives)
    small = {a.name: SMALL[a.name] for a in catalogue.arguments(card) if a.name in SMALL}
    stated = {**small, **block(card), "classes": {1: "mass"}, **arguments}
    return {"model.heads": {"only": stated}, "train.best": best}


def changes(card: Card) -> dict[str, Any]:
    """The one change from the small recipe that uses a card."""
    if card.kind == "head":
        return head(card.name)
    if card.kind == "loss":
        name, argument = HEADS[card.takes[0]]
        return head(name, **{argument: {"type": card.name}})
    if card.kind == "transform":
        always = {"p": 1.0} if "p" in (a.name for a in catalogue.arguments(card)) else {}
        return {"data.augment": [{"type": card.name, **always}]}
    section = {"intensity": "data", "optimizer": "train", "schedule": "train"}.get(card.kind, "model")
    return {f"{section}.{card.kind}": block(card)}


def recipe(card: Card) -> Recipe:
    base = copy.deepcopy(BASE)
    if 2 not in card.dims:
        base |= {"dims": 3, "data": base["data"] | {"size": [16, 32, 32], "patch": [16, 32, 32]}}
    base["data"] |= DATA.get((card.kind, card.name), {})
    for path, value in changes(card).items():
        *above, key = path.split(".")
        section = base[above[0]] if above else base
        section[key] = value
    return load(base)


@pytest.mark.parametrize("card", CARDS, ids=lambda card: f"{card.kind}-{card.name}")
def test_one_step(card, tmp_path):
    made = recipe(card)
    assert check(made).problems == []
    prepared, logged = prepare(made), {}
    before = {name: value.clone() for name, value in prepared.model.named_parameters()}
    outcome = fit(
        prepared.model,
        prepared.batches(),
        prepared.validator,
        prepared.settings,
        tmp_path,
        log=lambda metrics, step: logged.update(metrics),
    )
    assert (outcome.step, outcome.stopped) == (1, "steps")
    assert prepared.settings.best in outcome.best
    after = dict(prepared.model.named_parameters())
    assert all(value.isfinite().all() for value in after.values())
    assert any(not torch.equal(before[name], value) for name, value in after.items())
    assert all(math.isfinite(value) for name, value in logged.items() if name.startswith("train/"))
