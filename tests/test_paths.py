from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path, PureWindowsPath

import pytest

from cphloc import paths


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


DEVICES = ["CON", "nul", "aux.nii.gz", "com1", "LPT9.x", "con ", "COM\u00b2", "prn.tar.gz"]


@pytest.mark.parametrize("name", [*DEVICES, "a.", "a ", "..", "", "a:b", 'x"<>|?*', "a/b", "a\\b", "a\x1b[2J"])
def test_a_name_that_windows_cannot_have_is_changed_to_one_that_every_system_can(name):
    changed = paths.portable(name)
    assert changed
    assert not PureWindowsPath(changed).is_reserved()
    assert not re.search(r'[<>:"/\\|?*\x00-\x1f]', changed)
    assert not changed.endswith((".", " "))
    assert paths.portable(changed) == changed


@pytest.mark.parametrize("name", ["scan", "console.nii", "com10", "auxiliary", "M\u00fcller 3", ".hidden", "a..b"])
def test_other_names_stay(name):
    assert paths.portable(name) == name
