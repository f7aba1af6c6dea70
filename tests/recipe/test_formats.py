"""A stored recipe keeps the defaults of its format; a written one takes today's."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from cphloc import paths
from cphloc.config import yamlio
from cphloc.data.augment.augmentation import Augmentation
from cphloc.publishing.freeze import entry_recipe
from cphloc.recipe import formats
from cphloc.recipe.formats import FORMAT
from cphloc.recipe.recipe import load, load_stored
from cphloc.structures.annotation import Annotation

PUBLISHED = sorted(paths.shipped("zoo").glob("*/*/recipe.yaml"))

PLAIN = {
    "task": "segmentation",
    "dims": 3,
    "data": {"type": "sts_petct", "patch": [16, 16, 16]},
    "model": {
        "backbone": {"type": "conv_encoder", "widths": [4, 8]},
        "heads": {"mask": {"type": "unet", "classes": {1: "tumour"}}},
    },
}


@pytest.fixture
def changed_defaults(monkeypatch):
    """As if format 2 had changed the default of an argument and of a field of ``train``."""
    former = {1: {"backbone.conv_encoder.convolutions": 5, "train.clip_norm": 7.0}}
    monkeypatch.setattr(formats, "FORMER_DEFAULTS", former)


def test_a_stored_recipe_without_format_takes_the_former_defaults(changed_defaults):
    stored, written = load_stored(PLAIN), load(PLAIN)
    assert (stored.format, stored.model.backbone.args["convolutions"], stored.train.clip_norm) == (1, 5, 7.0)
    assert (written.format, written.model.backbone.args["convolutions"], written.train.clip_norm) == (FORMAT, 2, 12.0)


def test_what_a_recipe_states_is_no_default(changed_defaults):
    stated = load_stored(PLAIN | {"train": {"clip_norm": None}})
    assert stated.train.clip_norm is None
    assert load(load_stored(PLAIN).to_plain()).to_yaml() == load_stored(PLAIN).to_yaml()


def test_channels_left_out_were_ct_and_are_all_of_the_data_set():
    assert load_stored(PLAIN).channels == ("ct",)
    for left_out in ({}, {"channels": None}):
        written = load(PLAIN | {"data": PLAIN["data"] | left_out})
        assert written.data.channels == list(written.channels) == ["ct", "pet"]


def test_publishing_writes_todays_format_and_every_default(changed_defaults):
    published = entry_recipe(load_stored(copy.deepcopy(PLAIN)))
    plain = yamlio.read(published.to_yaml(), "entry").plain
    assert plain["format"] == FORMAT
    assert plain["model"]["backbone"]["convolutions"] == 5
    assert load_stored(plain).to_yaml() == published.to_yaml()


ADDED = {
    "codes": {},
    "model.average": "probabilities",
    "model.members": 1,
    "model.merged_classes": {},
    "model.seeds": {},
    "nsd_tolerance_mm": {},
    "options": ["tta", "temperature", "threshold", "min_probability", "largest", "min_size"],
    "train.gradient_checkpointing": False,
    "train.swa": None,
    "train.teacher": None,
    "train.teacher_sure": None,
    "train.teacher_weight": 1.0,
    "data.about": None,
    "data.annotated": None,
    "data.folds": None,
    "data.nnunet": None,
    "data.monai": None,
    "data.pad": "zero_then_edge",
    "data.patient": None,
    "data.units": None,
    "data.classes": None,
    "data.masks": "marked",
    "Brightness.p_per_channel": None,
    "Contrast.p_per_channel": None,
    "Contrast.preserve_range": True,
    "Gamma.p_per_channel": None,
    "Gamma.retain_stats": 0.0,
    "GaussNoise.p_per_channel": None,
    "LowResolution.axes": None,
    "LowResolution.p_per_channel": None,
    "LowResolution.per_axis": False,
    "dice_ce.class_weights": None,
    "dice_ce.label_smoothing": 0.0,
    "dice_ce.top_k": None,
    "faster_rcnn.proposal_iou": 0.7,
    "retina.bg_iou": 0.4,
    "retina.fg_iou": 0.5,
    "unet.gates": False,
    "unet.kernels": None,
    "unet.prior": None,
    "unet.scores": "softmax",
}
"""Values that stored recipes leave out, because they came later: each stands for what cphloc did before it.

A new one belongs here with the value that changes nothing; the value of one that is here never changes.
"""

SUPPRESSION = {
    "nms": {"type": "nms", "iou": 0.5, "score": 0.05, "pre_nms_topk": 1000, "limit": 100},
    "yolox": {"type": "nms", "iou": 0.65, "score": 0.05, "pre_nms_topk": 1000, "limit": 100},
}
"""How duplicate boxes were resolved before it could be chosen, by ``nms`` or by the head."""


def additions(stored, loaded, path=(), block=""):
    """Yield path, name and value of everything that loading adds to a stored recipe; what is stored must be kept."""
    if isinstance(stored, dict):
        kind = stored["type"] if len(path) > 1 and "type" in stored else block
        for key, value in loaded.items():
            if key in stored:
                yield from additions(stored[key], value, (*path, key), kind)
            else:
                yield (*path, key), f"{kind}.{key}" if kind else ".".join((*path, key)), value
    elif isinstance(stored, list):
        assert len(loaded) == len(stored)
        for one, other in zip(stored, loaded, strict=True):
            yield from additions(one, other, path, block)
    elif stored == "nms" and loaded != stored:  # of a time when a head named its method only
        assert loaded | {"pre_nms_topk": 1000} == SUPPRESSION["nms"]
        assert loaded["pre_nms_topk"] in (None, 1000)
    else:
        assert loaded == stored, path


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.parts[-3])
def test_a_published_recipe_means_what_it_says(path):
    stored = yamlio.load(path).plain
    loaded = load_stored(stored).to_plain()
    assert loaded["format"] == stored["format"]
    for where, name, value in additions(stored, loaded):
        if where[-1] == "suppression":
            assert value == SUPPRESSION["yolox" if name.startswith("yolox") else "nms"]
        else:
            known = name if name in ADDED else ".".join(where)
            assert (name, value) == (name, ADDED[known])


AUGMENTED = {
    "attention2d-breast-ultrasound": [97.3385, 27.6064, -910.02, 0.184564, 0.641102, 1.35278],
    "attention3d-ct": [97.9938, 28.3067, -1583.47, 0.0464002, 0.525408, -0.179653],
    "fasterrcnn2d-bloodcells": [95.5983, 27.1605, -896.067, 0.0153727, 0.639091, -0.0100691],
    "retina2d-bloodcells": [95.5983, 27.1605, -896.067, 0.0153727, 0.639091, -0.0100691],
    "yolox2d-bloodcells": [95.5983, 27.1605, -896.067, 0.0153727, 0.639091, -0.0100691],
    "multitask3d-petct": [96.2722, 28.4156, -1589.2, 0.0800843, 0.491172, -0.0967395],
    "retina3d-petct": [96.2722, 28.4156, -1589.2, 0.0800843, 0.491172, -0.0967395],
    "unet3d-sarcoma-ct": [96.2722, 28.4156, -1589.2, 0.0800843, 0.491172, -0.0967395],
    "unet3d-petct": [96.2722, 28.4156, -1589.2, 0.0800843, 0.491172, -0.0967395],
    "unet3d-hippocampus": [96.3182, 29.6482, -1673.03, 0.134949, 0.552583, 0.420166],
}
"""Mean over twelve patches of `moments` of patch and warp, by the code before transforms got further arguments."""


def moments(array):
    weights = np.cos(np.arange(array.size)).reshape(array.shape)
    return [array.mean(), array.std(), (array * weights).sum()]


@pytest.mark.parametrize("path", [path for path in PUBLISHED if path.parts[-3] in AUGMENTED], ids=lambda p: p.parts[-3])
def test_a_published_recipe_is_augmented_as_it_was(path):
    """The same random numbers give the same patches, so that the recipe trains the same network again."""
    recipe, rng = load_stored(yamlio.load(path).plain), np.random.default_rng(7)
    augmentation = Augmentation(recipe.to_plain()["data"]["augment"], recipe.dims)
    size = (20, 24) if recipe.dims == 2 else (6, 12, 14)
    image = rng.normal(100, 30, (1, *size)).astype(np.float32)
    found = []
    for _ in range(12):
        patch = augmentation.apply(image, Annotation(), rng)[0].astype(np.float64)
        found.append(moments(patch) + moments(augmentation.draw(rng, size, (1.0,) * recipe.dims).warp.matrix))
    assert np.mean(found, axis=0) == pytest.approx(AUGMENTED[path.parts[-3]], rel=1e-4)
