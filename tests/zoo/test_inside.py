"""A folder from a stranger may hold links, pipes and odd names; nothing outside it is read."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from cphloc.config import yamlio
from cphloc.errors import CphlocError, DataError, RecipeError
from cphloc.publishing.audit import audit
from cphloc.zoo.entries import find_entry
from cphloc.zoo.entry import Entry
from cphloc.zoo.index import index_zoo, read_index
from cphloc.zoo.inside import file_inside, files_below, read_inside

pytestmark = pytest.mark.usefixtures("own_folders")


def test_files_and_links_within_the_folder_are_read(tmp_path):
    (tmp_path / "e" / "sub").mkdir(parents=True)
    (tmp_path / "e" / "a").write_text("abc")
    (tmp_path / "e" / "sub" / "b").symlink_to("../a")
    assert read_inside(tmp_path / "e", "sub/b", 2) == b"ab"
    (tmp_path / "link").symlink_to("e")
    assert read_inside(tmp_path / "link", "a", 9) == b"abc"
    assert not file_inside(tmp_path / "e", "missing").exists()


@pytest.mark.parametrize(
    "target", ["../secret", "{there}/secret", "loop", "../nowhere", "/dev/zero", "/proc/self/environ"]
)
def test_links_that_lead_out_or_nowhere_are_refused(tmp_path, target):
    (tmp_path / "secret").write_text("TOP-SECRET")
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "loop").symlink_to(target.format(there=tmp_path))
    with pytest.raises(DataError, match=r"loop: (is a link|cannot be read|is not a regular file)"):
        read_inside(tmp_path / "e", "loop", 99)


def test_a_folder_that_is_a_link_and_a_pipe_are_refused(tmp_path):
    (tmp_path / "e").mkdir()
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "x").write_text("TOP-SECRET")
    (tmp_path / "e" / "sub").symlink_to("../private")
    os.mkfifo(tmp_path / "e" / "pipe")
    with pytest.raises(DataError, match="leads out of its folder"):
        file_inside(tmp_path / "e", "sub/x")
    with pytest.raises(DataError, match="not a regular file"):
        file_inside(tmp_path / "e", "pipe")
    assert files_below(tmp_path / "e") == {"sub", "pipe"}


@pytest.mark.parametrize(
    "name", ["a\0b", "a\nb", "../x", "/x", "a/../../x", "C:x", "a\\b", "", "a//b", "x" * 300, "\u202ex"]
)
def test_no_entry_names_a_file_outside_its_folder(tmp_path, put_entry, entry_facts, name):
    files = {**entry_facts("evil", "1.0.0")["files"], name: {"sha256": "0" * 64, "bytes": 1}}
    folder = put_entry(tmp_path / "z", "evil", "1.0.0", files=files)
    with pytest.raises(RecipeError, match=r"must be a path inside the entry's folder|at least"):
        Entry.read(folder / "entry.yaml")


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "https://bob:pw@host/w",
        "https://host/w?X-Amz-Signature=1",
        "https://host/w?token=1",
        "s3://bucket/x::file:///etc/passwd",
        "ftp://host/w",
        "https://host/\x1b[2J",
    ],
)
def test_no_entry_takes_weights_from_this_machine_or_publishes_a_secret(tmp_path, put_entry, entry_facts, url):
    weights = {**entry_facts("evil", "1.0.0")["weights"], "file": None, "urls": [url]}
    with pytest.raises(RecipeError):
        Entry.read(put_entry(tmp_path / "z", "evil", "1.0.0", weights=weights) / "entry.yaml")


@pytest.mark.parametrize("file", ["entry.yaml", "recipe.yaml", "model.safetensors"])
def test_an_entry_of_links_is_a_report_and_no_traceback(tmp_path, monkeypatch, file):
    def copy_of(name: str) -> Path:
        """A published entry under another name."""
        source = find_entry("unet3d-hippocampus").place
        folder = tmp_path / "z" / name / "1.0.0"
        shutil.copytree(source, folder)
        entry = {**yamlio.load(folder / "entry.yaml").plain, "name": name, "version": "1.0.0"}
        (folder / "entry.yaml").write_text(yamlio.dump(entry))
        return folder

    secret = tmp_path / "id_rsa"
    secret.write_text("TOP-SECRET-4711")
    for name, target in (("loop", file), ("out", str(secret))):
        folder = copy_of(name)
        (folder / file).unlink()
        (folder / file).symlink_to(target)
        monkeypatch.setenv("CPHLOC_ZOO", str(tmp_path / "z"))
        try:
            said = " ".join(f"{f.name} {f.what} {f.safe}" for f in audit(name))
        except CphlocError as error:
            said = str(error)
        assert "TOP-SECRET" not in said
        assert "False" in said or "cannot be read" in said or "leads out" in said


def test_an_index_holds_only_what_lies_in_the_zoo(tmp_path, put_entry):
    zoo = tmp_path / "z"
    put_entry(zoo, "good", "1.0.0")
    outside = put_entry(tmp_path / "private", "mine", "1.0.0")
    (zoo / "mine").mkdir()
    (zoo / "mine" / "1.0.0").symlink_to(outside)
    (zoo / "also").symlink_to(outside.parent)
    with pytest.warns(UserWarning, match=r"mine/1\.0\.0: is a link that leads out of the zoo"):
        assert [row.name for row in read_index(index_zoo(zoo))] == ["good"]


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000,
        b'{"format": 1, "entries": [{"name": "a"}]}',
        b'{"format": 1, "entries": ' + b"[" * 50_000,
        b"\xff\xfe",
        b"9" * 5000,
        b"null",
    ],
)
def test_an_index_of_a_stranger_is_refused_in_one_line(tmp_path, content):
    (tmp_path / "zoo.json").write_bytes(content)
    with pytest.raises(DataError, match="not an index of a zoo") as caught:
        read_index(tmp_path / "zoo.json")
    assert "\n" not in str(caught.value)


def test_a_file_larger_than_the_entry_says_is_not_read(tmp_path, put_entry):
    folder = put_entry(tmp_path / "z", "big", "1.0.0")
    with (folder / "entry.yaml").open("ab") as file:
        file.truncate(10**10)  # sparse
    with pytest.raises(RecipeError, match="more than"):
        find_entry(folder)


def test_an_entry_with_hostile_texts_is_one_report(tmp_path, put_entry):
    folder = put_entry(tmp_path / "z", "bad", "1.0.0", summary="x\x1b]52;c;x\x07", limits=[])
    with pytest.raises(RecipeError) as caught:
        Entry.read(folder / "entry.yaml")
    assert "\x1b" not in str(caught.value)
    assert yamlio.load(folder / "recipe.yaml").plain == {"task": "segmentation"}
