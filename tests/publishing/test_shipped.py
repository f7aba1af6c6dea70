"""Every entry that ships with cphloc still does what it did when it was published."""

from __future__ import annotations

import json

import pytest

from cphloc import paths
from cphloc.publishing.audit import audit
from cphloc.publishing.publish import ALL_BYTES, EACH_BYTES
from cphloc.publishing.verify import verify
from cphloc.zoo.entries import list_entries
from cphloc.zoo.index import read_index, version_folders
from cphloc.zoo.names import sha256_of

ZOO = paths.shipped("zoo")
ENTRIES = list_entries(all_versions=True, zoos=[str(ZOO)])


@pytest.mark.parametrize("listing", ENTRIES, ids=str)
def test_files_and_sample_are_as_published(listing):
    assert [check for check in verify(listing.place) if not check.right] == []


@pytest.mark.parametrize("listing", ENTRIES, ids=str)
def test_it_holds_no_code(listing):
    assert [line for line in audit(listing.place) if not line.safe] == []


@pytest.mark.parametrize("listing", ENTRIES, ids=str)
def test_its_headline_stands_beside_a_baseline(listing):
    name, found = listing.entry.headline
    assert found.n
    assert name in listing.entry.baseline.metrics


def test_the_weights_that_ship_are_small():
    weights = [listing.entry.weights for listing in ENTRIES]
    assert [w.bytes for w in weights if w.file and w.bytes > EACH_BYTES] == []
    assert sum(w.bytes for w in weights if w.file) <= ALL_BYTES


def test_the_index_knows_every_version():
    known = {(row.name, row.version): row.sha256 for row in read_index(ZOO / "zoo.json")}
    there = {(name, version): folder for name, version, folder in version_folders(ZOO, lambda name: True)}
    assert known == {key: sha256_of((folder / "entry.yaml").read_bytes()) for key, folder in there.items()}
    assert json.loads((ZOO / "zoo.json").read_text())["format"] == 1
