from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from cphloc import paths
from cphloc.errors import CphlocError
from cphloc.paths import atomic, atomic_folder


def test_a_file_appears_only_when_it_is_whole(tmp_path):
    target = tmp_path / "new folder" / "scan.nii.gz"
    with atomic(target) as temporary:
        temporary.write_bytes(b"voxels")
        assert temporary.parent == target.parent
        assert temporary.name.endswith("scan.nii.gz")
        assert not target.exists()
    assert target.read_bytes() == b"voxels"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("failure", [ValueError("ours"), KeyboardInterrupt()], ids=["an error", "an interruption"])
def test_a_failure_keeps_the_old_file_and_leaves_nothing_else(tmp_path, failure: BaseException):
    target = tmp_path / "a.json"
    target.write_text("old")
    with pytest.raises(type(failure)), atomic(target) as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise failure
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]


def test_what_the_system_refuses_is_one_clear_line(tmp_path):
    target = tmp_path / "a.json"
    with pytest.raises(CphlocError) as caught, atomic(target):
        raise OSError(28, "No space left on device")
    assert (
        str(caught.value)
        == f"{target}: cannot be written (No space left on device); free space, or choose another folder"
    )


@pytest.fixture
def umask():
    """Set the umask, as a shell does for a group that shares its files; restored afterwards."""
    before = os.umask(0)
    os.umask(before)
    yield os.umask
    os.umask(before)


@pytest.mark.parametrize(("mask", "file", "folder"), [(0o002, 0o664, 0o775), (0o022, 0o644, 0o755)])
def test_permissions_follow_the_umask_also_with_writers_that_make_private_files(tmp_path, umask, mask, file, folder):
    umask(mask)
    with atomic(tmp_path / "a.json") as temporary:
        temporary.write_text("{}")
        temporary.chmod(0o600)
    with atomic_folder(tmp_path / "new" / "entry") as aside:
        (aside / "a.npy").write_text("voxels")
    made = [tmp_path / "a.json", tmp_path / "new" / "entry" / "a.npy", tmp_path / "new" / "entry"]
    assert [p.stat().st_mode & 0o777 for p in made] == [file, file, folder]


def test_a_folder_appears_only_when_it_is_whole_and_the_first_one_stays(tmp_path):
    target = tmp_path / "entry"
    with pytest.raises(ValueError, match="ours"), atomic_folder(target) as aside:  # noqa: PT012
        (aside / "half").touch()
        raise ValueError("ours")
    assert list(tmp_path.iterdir()) == []
    with atomic_folder(target) as slow:
        (slow / "second").touch()
        with atomic_folder(target) as quick:
            (quick / "first").touch()
    assert [p.name for p in target.iterdir()] == ["first"]
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("{0}/my zoo", ["{0}/my zoo"]),
        ("{0}/my zoo:{0}/other", ["{0}/my zoo", "{0}/other"]),
        ("{0}/a {0}/other", ["{0}/a", "{0}/other"]),
        ("https://host:80/zoo {0}/my zoo", ["https://host:80/zoo", "{0}/my zoo"]),
        ("{0}/my zoo:https://host/a%20zoo s3://bucket/zoo", ["{0}/my zoo", "https://host/a%20zoo", "s3://bucket/zoo"]),
        ("{0}/50% #1? zoo", ["{0}/50% #1? zoo"]),
        ("", []),
    ],
)
def test_zoo_folders_may_have_spaces_beside_urls(tmp_path, monkeypatch, value, expected):
    for name in ("my zoo", "other", "a"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("CPHLOC_ZOO", value.format(tmp_path))
    assert paths.zoos()[:-1] == [place.format(tmp_path) for place in expected]


def test_a_read_only_cache_is_read_and_what_it_lacks_goes_to_a_temporary_folder(tmp_path, monkeypatch):
    (tmp_path / "cache" / "zoo").mkdir(parents=True)
    (tmp_path / "cache" / "zoo" / "here").touch()
    monkeypatch.setenv("CPHLOC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(paths, "is_writable", lambda folder: False)
    assert paths.cached("zoo", "here") == tmp_path / "cache" / "zoo" / "here"
    with pytest.warns(UserWarning, match="Set CPHLOC_CACHE to a folder of your own"):
        other = paths.cached("zoo", "missing")
    assert other.is_relative_to(tempfile.gettempdir())
    assert not other.is_relative_to(tmp_path)


def test_a_folder_below_a_file_cannot_be_written_and_one_below_a_folder_can(tmp_path):
    (tmp_path / "file").touch()
    assert not paths.is_writable(tmp_path / "file" / "cache")
    assert paths.is_writable(tmp_path / "new" / "cache")
    assert not (tmp_path / "new").exists()


def test_a_user_without_a_home_folder_has_a_cache(monkeypatch):
    def nowhere():
        raise RuntimeError("Could not determine home directory.")

    for name in ("CPHLOC_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", nowhere)
    assert paths.is_writable(paths.cache())


def test_a_temporary_cache_that_another_user_made_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    planted = tmp_path / f"cphloc-{os.getuid()}"
    planted.mkdir()
    planted.chmod(0o777)
    paths._temporary_cache.cache_clear()
    try:
        assert paths._temporary_cache() != planted
    finally:
        paths._temporary_cache.cache_clear()
