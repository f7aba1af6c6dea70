import json
import os
import shutil
from pathlib import Path

import pytest

from cphloc import paths
from cphloc.errors import DataError
from cphloc.zoo import entries, summaries
from cphloc.zoo.index import index_zoo

SHIPPED = sorted(paths.shipped("zoo").glob("unet3d-hippocampus/*"))[-1]


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    """A zoo of two entries with its index, whose last change counts as long ago, and an empty cache."""
    monkeypatch.setenv("CPHLOC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(summaries, "_SETTLED_SECONDS", -1.0)
    folder = tmp_path / "zoo"
    monkeypatch.setattr(paths, "zoos", lambda: [str(folder)])
    for name in ("first", "second"):
        publish(folder, name, "what it is")
    index_zoo(folder)
    return folder


def publish(zoo: Path, name: str, summary: str, version: str = SHIPPED.name) -> None:
    place = zoo / name / version
    place.mkdir(parents=True)
    lines = (SHIPPED / "entry.yaml").read_text().splitlines()
    stated = {"name: ": name, "version: ": version, "summary: ": summary}
    new = {key: f"{key}{value}" for key, value in stated.items()}
    text = "\n".join(next((n for k, n in new.items() if line.startswith(k)), line) for line in lines)
    (place / "entry.yaml").write_text(text + "\n")


def kept(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache").rglob("summaries/*.json"))


def expected(all_versions: bool = False) -> list[tuple[str, str]]:
    return [(str(one), one.row.summary) for one in entries.list_entries(all_versions=all_versions)]


def test_the_second_listing_reads_no_index(zoo, tmp_path, monkeypatch):
    first = summaries.summaries()
    assert first == expected() == [(f"{n}@{SHIPPED.name}", "what it is") for n in ("first", "second")]
    assert len(kept(tmp_path)) == 1
    monkeypatch.setattr(entries, "list_entries", lambda **_: pytest.fail("the zoo was read again"))
    assert summaries.summaries() == first


def test_an_entry_that_is_added_changed_or_removed_is_seen(zoo):
    for change in (
        lambda: publish(zoo, "third", "new"),
        lambda: publish(zoo, "first", "better", "9.0.0"),
        lambda: (publish(zoo, "fourth", "four"), index_zoo(zoo)),
        lambda: shutil.rmtree(zoo / "second"),
        lambda: shutil.rmtree(zoo / "first" / "9.0.0"),
        lambda: (zoo / "third" / SHIPPED.name).rename(zoo / "third" / "8.0.0"),
    ):
        before = summaries.summaries(all_versions=True)
        change()
        if (zoo / "third" / "8.0.0").exists():
            shutil.rmtree(zoo / "third")
        assert summaries.summaries(all_versions=True) == expected(all_versions=True) != before


def test_an_index_that_is_written_again_is_read_even_if_its_time_is_set_back(zoo):
    assert summaries.summaries()[0][1] == "what it is"
    file, at = zoo / "zoo.json", (zoo / "zoo.json").stat()
    file.write_text(file.read_text().replace("what it is", "what it was", 1).replace("what it is", "what it i", 1))
    os.utime(file, ns=(at.st_atime_ns, at.st_mtime_ns))
    assert [text for _, text in summaries.summaries()] == ["what it was", "what it i"]


def test_nothing_is_kept_of_a_zoo_that_has_just_changed_or_has_versions_beside_its_index(zoo, tmp_path, monkeypatch):
    monkeypatch.setattr(summaries, "_SETTLED_SECONDS", 10.0)
    summaries.summaries()
    assert not kept(tmp_path)
    monkeypatch.setattr(summaries, "_SETTLED_SECONDS", -1.0)
    publish(zoo, "third", "not in the index")
    assert dict(summaries.summaries())[f"third@{SHIPPED.name}"] == "not in the index"
    assert not kept(tmp_path)
    (zoo / "third" / SHIPPED.name / "entry.yaml").write_text("no entry")
    assert "cannot be read" in dict(summaries.summaries())[f"third@{SHIPPED.name}"]


def test_damaged_lines_are_made_again_and_a_damaged_index_is_an_error(zoo, tmp_path):
    first = summaries.summaries()
    for damage in ("", "[]", "{", json.dumps({"state": "x"})):
        kept(tmp_path)[0].write_text(damage)
        assert summaries.summaries() == first
    (zoo / "zoo.json").write_text("{}")
    with pytest.raises(DataError, match="not an index"):
        summaries.summaries()
