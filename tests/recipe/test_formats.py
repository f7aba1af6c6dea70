"""A stored recipe keeps the defaults of its format; a written one takes today's."""

from __future__ import annotations

import copy

import pytest

from cphloc import paths
from cphloc.config import yamlio
from cphloc.publishing.freeze import entry_recipe
from cphloc.recipe import formats
from cphloc.recipe.formats import FORMAT
from cphloc.recipe.recipe import load, load_stored

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


def assert_kept(stored, loaded):
    """Everything that is stored is as it was; arguments that components have got since may be added."""
    if isinstance(stored, dict):
        for key, value in stored.items():
            assert_kept(value, loaded[key])
    elif isinstance(stored, list):
        assert len(loaded) == len(stored)
        for one, other in zip(stored, loaded, strict=True):
            assert_kept(one, other)
    else:
        assert loaded == stored


@pytest.mark.parametrize("path", sorted(paths.shipped("zoo").glob("*/*/recipe.yaml")), ids=lambda path: path.parts[-3])
def test_a_published_recipe_means_what_it_says(path):
    stored = yamlio.load(path).plain
    loaded = load_stored(stored).to_plain()
    assert loaded["format"] == stored["format"] == 1
    assert_kept(stored["data"], loaded["data"])
