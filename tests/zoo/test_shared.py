"""Versions of a zoo that share one file of weights, and versions that another one supersedes."""

from __future__ import annotations

import hashlib
import json
import os

import pytest
from entry_fixtures import WEIGHTS, pinned

from cphloc.cli import main
from cphloc.errors import CphlocError
from cphloc.zoo.entries import find_entry, list_entries
from cphloc.zoo.entry import Entry
from cphloc.zoo.index import index_zoo


@pytest.fixture(params=["folder", "url"])
def zoo(request, tmp_path, server, put_entry, monkeypatch):
    """``old`` has no weights of its own: ``better`` holds them, beside others that are as large."""
    folder = server.root / "zoo"
    other = bytes(reversed(WEIGHTS))
    put_entry(
        folder, "another", "1.0.0", weights={"file": "model.safetensors", "precision": "float16", **pinned(other)}
    )
    (folder / "another" / "1.0.0" / "model.safetensors").write_bytes(other)
    put_entry(folder, "better", "2.0.0", supersedes=["old@0.1.0"])
    (put_entry(folder, "old", "0.1.0") / "model.safetensors").unlink()
    index_zoo(folder)
    monkeypatch.setenv("CPHLOC_ZOO", str(folder) if request.param == "folder" else f"{server.url}/zoo")
    return folder


def test_weights_are_found_by_hash_in_another_version(zoo):
    with pytest.warns(UserWarning, match="superseded"):
        path = find_entry("old").weights_path()
    assert hashlib.sha256(path.read_bytes()).hexdigest() == find_entry("better").entry.weights.sha256


def test_a_folder_of_the_zoo_finds_them_too(zoo):
    assert find_entry(zoo / "old" / "0.1.0").weights_path() == (zoo / "better" / "2.0.0" / "model.safetensors")


@pytest.mark.filterwarnings("ignore:old@0.1.0 is superseded")
def test_weights_that_no_version_holds_are_not_taken_from_one_as_large(zoo, monkeypatch):
    (zoo / "better" / "2.0.0" / "model.safetensors").unlink()
    monkeypatch.setattr("cphloc.download.files.BACKOFF_SECONDS", 0.0)
    if find_entry("old").place == zoo / "old" / "0.1.0":
        assert not find_entry("old").weights_path().exists()
        return
    with pytest.raises(CphlocError, match=r"old@0\.1\.0/model\.safetensors cannot be downloaded"):
        find_entry("old").weights_path()


def test_a_superseded_version_loads_with_a_warning_that_names_the_better_one(zoo, recwarn):
    assert str(find_entry("better")) == "better@2.0.0"
    assert not recwarn
    with pytest.warns(UserWarning, match=r"^old@0\.1\.0 is superseded by better@2\.0\.0") as caught:
        assert str(find_entry("old@0.1")) == "old@0.1.0"
    assert len(caught) == 1


def test_a_superseded_version_leaves_the_default_list(zoo):
    assert [str(e) for e in list_entries(zoos=[os.environ["CPHLOC_ZOO"]])] == ["another@1.0.0", "better@2.0.0"]
    every = {str(e): e.superseded_by for e in list_entries(all_versions=True, zoos=[os.environ["CPHLOC_ZOO"]])}
    assert every == {"another@1.0.0": "", "better@2.0.0": "", "old@0.1.0": "better@2.0.0"}


def test_a_later_version_of_a_superseded_name_is_listed(zoo, put_entry):
    put_entry(zoo, "old", "1.0.0")
    index_zoo(zoo)
    assert "old@1.0.0" in [str(e) for e in list_entries()]
    assert str(find_entry("old")) == "old@1.0.0"


@pytest.mark.filterwarnings("ignore:old@0.1.0 is superseded")
def test_list_and_show_say_it(zoo, capsys):
    assert main(["list", "zoo"]) == 0
    assert "old@0.1.0" not in capsys.readouterr().out
    assert main(["list", "zoo", "--all"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("old@0.1.0"))
    assert "superseded by better@2.0.0" in line
    assert main(["show", "old@0.1.0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["superseded_by"] == "better@2.0.0"
    assert main(["show", "better"]) == 0
    assert "old@0.1.0" in capsys.readouterr().out


def test_an_index_without_the_column_is_read(zoo):
    index = json.loads((zoo / "zoo.json").read_text())
    for row in index["entries"]:
        row.pop("supersedes")
    (zoo / "zoo.json").write_text(json.dumps(index))
    assert str(find_entry("another")) == "another@1.0.0"


@pytest.mark.parametrize("wrong", ["old", "old@1", "../old@0.1.0", "old@^1"])
def test_only_an_exact_version_can_be_superseded(entry_facts, tmp_path, wrong):
    from cphloc.config import yamlio

    (tmp_path / "entry.yaml").write_text(yamlio.dump(entry_facts("x", "1.0.0") | {"supersedes": [wrong]}))
    with pytest.raises(CphlocError, match="supersedes"):
        Entry.read(tmp_path / "entry.yaml")
