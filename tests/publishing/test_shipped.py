"""Every entry that ships with cphloc still does what it did when it was published."""

from __future__ import annotations

import json
import re
import shlex
import shutil

import pytest

from cphloc import paths
from cphloc.cli import main
from cphloc.publishing.audit import audit
from cphloc.publishing.publish import ALL_BYTES, EACH_BYTES
from cphloc.publishing.verify import verify
from cphloc.zoo.entries import find_entry, list_entries
from cphloc.zoo.entry import File
from cphloc.zoo.index import read_index, version_folders
from cphloc.zoo.names import sha256_of

ZOO = paths.shipped("zoo")
ENTRIES = list_entries(all_versions=True, zoos=[str(ZOO)])
CURRENT = list_entries(zoos=[str(ZOO)])
EACH = [pytest.param(one, id=str(one), marks=() if one in CURRENT else pytest.mark.slow) for one in ENTRIES]
"""Every version; those that were measured and published anew, with the same weights, are slow ones."""


@pytest.mark.parametrize(
    "listing", [pytest.param(e, id=str(e), marks=() if e in CURRENT else pytest.mark.slow) for e in ENTRIES]
)
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
    assert sum(path.stat().st_size for path in ZOO.glob("*/*/model.safetensors")) <= ALL_BYTES


def test_weights_that_versions_share_are_held_once():
    held = [File.of(path).sha256 for path in ZOO.glob("*/*/model.safetensors")]
    assert len(held) == len(set(held))
    assert set(held) == {listing.entry.weights.sha256 for listing in ENTRIES}


def test_the_sarcoma_model_stands_under_its_own_name():
    with pytest.warns(UserWarning, match=r"unet3d-ct@0\.1\.0 is superseded by unet3d-sarcoma-ct@0\.1\.0"):
        old = find_entry("unet3d-ct@0.1", [str(ZOO)])
    new = find_entry("unet3d-sarcoma-ct", [str(ZOO)])
    assert old.entry.weights.sha256 == new.entry.weights.sha256
    assert "unet3d-ct@0.1.0" not in map(str, list_entries(zoos=[str(ZOO)]))
    assert str(new) in map(str, list_entries(zoos=[str(ZOO)]))


@pytest.mark.parametrize("listing", CURRENT, ids=str)
def test_the_first_words_of_a_card_compare_with_the_baseline(listing):
    entry, line = listing.entry, (listing.place / "card.md").read_text().splitlines()[2]
    gain = entry.baseline.paired[entry.headline[0]]
    assert line.startswith("**Above its baseline** in" if gain.low > 0 else "**Not above its baseline** in")
    assert line.startswith("**Not") == entry.summary.startswith("Not above its baseline.")
    assert f"paired difference {gain.value:+.3f}" in line


@pytest.mark.slow
@pytest.mark.parametrize("listing", CURRENT, ids=str)
def test_the_examples_of_a_card_run_as_they_are_written(listing, tmp_path, monkeypatch):
    shutil.copytree(listing.place / "sample", tmp_path / "sample")
    monkeypatch.chdir(tmp_path)
    card = (listing.place / "card.md").read_text()
    python = re.search(r"```python\n(.*?)```", card, re.DOTALL)[1]
    exec(python, {})
    assert any((tmp_path / "out").iterdir())
    shutil.rmtree(tmp_path / "out")
    command = re.search(r"^cphloc (predict .*)$", card, re.MULTILINE)[1]
    assert main(shlex.split(command)) == 0
    assert any((tmp_path / "out").iterdir())


def test_the_index_knows_every_version():
    known = {(row.name, row.version): row.sha256 for row in read_index(ZOO / "zoo.json")}
    there = {(name, version): folder for name, version, folder in version_folders(ZOO, lambda name: True)}
    assert known == {key: sha256_of((folder / "entry.yaml").read_bytes()) for key, folder in there.items()}
    assert json.loads((ZOO / "zoo.json").read_text())["format"] == 1
