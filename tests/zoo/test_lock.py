from __future__ import annotations

import shutil

import pytest

from cphloc.errors import DataError, InputError
from cphloc.zoo.index import index_zoo
from cphloc.zoo.lock import find_locked, lock


@pytest.fixture
def zoo(tmp_path, monkeypatch, put_entry):
    put_entry(tmp_path / "zoo", "unet3d-ct", "1.0.0")
    put_entry(tmp_path / "zoo", "other", "0.1.0")
    monkeypatch.setenv("CPHLOC_ZOO", str(tmp_path / "zoo"))
    return tmp_path / "zoo"


def test_a_newer_version_changes_nothing_where_one_is_pinned(zoo, put_entry):
    assert lock(["unet3d-ct"])["unet3d-ct"]["version"] == "1.0.0"
    put_entry(zoo, "unet3d-ct", "1.1.0")
    assert find_locked("unet3d-ct").version == "1.0.0"
    assert find_locked("unet3d-ct@^1").version == "1.0.0"
    assert find_locked("other").version == "0.1.0"
    lock(["unet3d-ct"])
    assert find_locked("unet3d-ct").version == "1.1.0"


def test_pins_of_other_names_stay(zoo):
    lock(["unet3d-ct"])
    assert sorted(lock(["other"])) == ["other", "unet3d-ct"]


def test_asking_for_another_version_than_the_pinned_one_is_an_error(zoo, put_entry):
    lock(["unet3d-ct"])
    put_entry(zoo, "unet3d-ct", "2.0.0")
    with pytest.raises(InputError, match=r"pins unet3d-ct@1\.0\.0 but '\^2' is asked for"):
        find_locked("unet3d-ct@^2")


def test_a_pinned_version_with_other_content_is_refused(zoo):
    lock(["unet3d-ct"])
    file = zoo / "unet3d-ct" / "1.0.0" / "entry.yaml"
    file.write_text(file.read_text().replace("tumour", "tumor"))
    with pytest.raises(DataError, match="other content"):
        find_locked("unet3d-ct")


def test_a_damaged_lock_file_is_one_clear_error(zoo, tmp_path):
    (tmp_path / "work" / "cphloc.lock").write_text("unet3d-ct: 1.0.0\n")
    with pytest.raises(DataError, match="is not a lock file"):
        find_locked("unet3d-ct")


@pytest.mark.parametrize("spec", ["folder", "text", "url"])
def test_no_way_of_naming_a_version_passes_by_the_lock_file(zoo, server, spec, tmp_path, monkeypatch):
    lock(["unet3d-ct"])
    folder = zoo / "unet3d-ct" / "1.0.0"
    specs = {"folder": folder, "text": str(folder), "url": f"{server.url}/zoo/unet3d-ct@1.0.0"}
    index_zoo(zoo)
    shutil.copytree(zoo, server.root / "zoo")
    assert str(find_locked(specs[spec])) == "unet3d-ct@1.0.0"
    file = folder / "entry.yaml"
    file.write_text(file.read_text().replace("tumour", "tumor"))
    index_zoo(zoo)
    shutil.copytree(zoo, server.root / "zoo", dirs_exist_ok=True)
    monkeypatch.setenv("CPHLOC_CACHE", str(tmp_path / "new cache"))  # which has read no version of that server yet
    with pytest.raises(DataError, match=r"other content than cphloc\.lock pins"):
        find_locked(specs[spec])


@pytest.mark.parametrize("kind", ["folder", "link"])
def test_a_lock_file_that_is_none_is_not_passed_by(zoo, tmp_path, kind):
    path = tmp_path / "work" / "cphloc.lock"
    path.mkdir() if kind == "folder" else path.symlink_to("nowhere")
    with pytest.raises(DataError, match=r"cphloc\.lock: is a folder"):
        find_locked("unet3d-ct")
