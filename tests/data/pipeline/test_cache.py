import os
import subprocess
import sys
import time

import numpy as np
import pytest

from cphloc import paths
from cphloc.data.case import Case
from cphloc.data.datasets.hippocampus import Hippocampus
from cphloc.data.pipeline import cache
from cphloc.data.pipeline.cache import PreparedCase, entry_key, evict, limit_bytes, open_entry
from cphloc.errors import InputError
from cphloc.structures.annotation import Annotation
from cphloc.structures.geometry import Geometry


@pytest.fixture
def case(tmp_path):
    path = tmp_path / "image.bin"
    path.write_bytes(b"voxels")
    return Case("a", "a", (path,))


class Maker:
    """Prepares a case and counts how often it was asked to."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> PreparedCase:
        self.calls += 1
        image = np.arange(48, dtype=np.float32).reshape(1, 6, 8)
        geometry = Geometry.regular((6, 8), (2.0, 1.0))
        boxes, classes = np.array([[0, 0, 2, 2]], np.float32), np.array([1])
        annotation = Annotation(image[0].astype(np.uint8) % 2, boxes, classes, label=np.array([1.0, np.nan]))
        return PreparedCase("a", image, annotation, geometry, geometry, np.zeros((0, 3), np.int32), "hash")


def _entries():
    return [f for f in (paths.cache() / "prepared").iterdir() if not f.name.startswith(".")]


def test_comes_back_as_it_was_and_is_made_once(case):
    make = Maker()
    open_entry(case, "p", make)
    again = open_entry(case, "p", make, verify=True)
    expected = Maker()()
    assert make.calls == 1
    np.testing.assert_array_equal(again.image, expected.image)
    np.testing.assert_array_equal(again.annotation.mask, expected.annotation.mask)
    np.testing.assert_array_equal(again.annotation.label, expected.annotation.label)
    assert again.annotation.region is None
    assert again.geometry.same_grid(expected.geometry)
    assert again.content == "hash"
    assert not again.image.flags.writeable


def test_entry_that_another_process_writes_meanwhile_is_kept(case, monkeypatch):
    """It may be in use there: removing it made the other process fail."""
    load = cache._load

    def before(*args):
        """Find no entry; then another process writes it."""
        monkeypatch.setattr(cache, "_load", load)
        missing = load(*args)
        open_entry(case, "p", Maker())
        (_entries()[0] / "mark").touch()
        return missing

    monkeypatch.setattr(cache, "_load", before)
    assert open_entry(case, "p", Maker()).content == "hash"
    assert [(entry / "mark").exists() for entry in _entries()] == [True]


@pytest.mark.parametrize("damage", ["flip a byte", "cut", "no facts", "broken facts"])
def test_damaged_entry_is_made_again(case, damage):
    make = Maker()
    open_entry(case, "p", make)
    (folder,) = _entries()
    image, facts = folder / "image.npy", folder / "case.json"
    content = bytearray(image.read_bytes())
    content[-3] ^= 255
    if damage == "flip a byte":
        image.write_bytes(content)
    elif damage == "cut":
        image.write_bytes(content[:-10])
    elif damage == "no facts":
        facts.unlink()
    else:
        facts.write_text("{")
    again = open_entry(case, "p", make, verify=True)
    assert make.calls == 2
    np.testing.assert_array_equal(again.image, Maker()().image)


def test_other_files_or_settings_are_other_entries(case):
    keys = {entry_key(case, "p"), entry_key(case, "q")}
    case.images[0].write_bytes(b"other voxels")
    keys.add(entry_key(case, "p"))
    assert len(keys) == 3


def test_half_written_entry_is_never_seen(case):
    def fail() -> PreparedCase:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_entry(case, "p", fail)
    assert not (paths.cache() / "prepared").exists() or not _entries()


def test_least_recently_used_entries_leave(case, monkeypatch):
    keys = []
    for number, setting in enumerate("abc"):
        open_entry(case, setting, Maker())
        keys.append(entry_key(case, setting))
        os.utime(paths.cache() / "prepared" / keys[-1], (time.time() - 100 + number,) * 2)
    open_entry(case, "a", Maker())
    size = sum(p.stat().st_size for p in _entries()[0].iterdir())
    monkeypatch.setenv("CPHLOC_CACHE_GB", str(2.2 * size / 1e9))
    assert evict(keep=set()) == [keys[1]]
    monkeypatch.setenv("CPHLOC_CACHE_GB", str(0.1 * size / 1e9))
    assert evict(keep={keys[0]}) == [keys[2]]
    assert [f.name for f in _entries()] == [keys[0]]


@pytest.mark.parametrize("value", ["", "many", "0", "-3", "nan"])
def test_size_must_be_a_positive_number(monkeypatch, value):
    monkeypatch.setenv("CPHLOC_CACHE_GB", value)
    with pytest.raises(InputError, match="CPHLOC_CACHE_GB must be a positive number"):
        limit_bytes()


_PREPARE = """
import sys, time
from pathlib import Path
from cphloc.data.datasets.hippocampus import Hippocampus
from cphloc.data.pipeline.intensity import parse_intensity
from cphloc.data.pipeline.prepare import prepare
from cphloc.data.pipeline.preprocess import Preprocess
Path(sys.argv[1]).touch()
while not all(Path(name).exists() for name in sys.argv[1:]):
    time.sleep(0.001)
cases = prepare(Hippocampus("sample").cases("val"), Preprocess(3, None, parse_intensity("zscore", 1)), classes=2)
print(sorted((case.id, float(case.image.sum())) for case in cases))
"""


def test_two_processes_that_prepare_the_same_cases_share_them(private_cache):
    private_cache.mkdir()
    gates = [str(private_cache / name) for name in ("first", "second")]
    orders = (gates, gates[::-1])
    running = [
        subprocess.Popen([sys.executable, "-c", _PREPARE, *order], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for order in orders
    ]
    results = [process.communicate(timeout=120) for process in running]
    assert [process.returncode for process in running] == [0, 0], results
    assert results[0][0] == results[1][0]
    folders = list((private_cache / "prepared").iterdir())
    assert len(folders) == len(Hippocampus("sample").cases("val"))
    assert not [folder for folder in folders if folder.name.startswith(".")]


def test_the_entry_of_another_user_is_used_although_its_times_cannot_be_set(case, monkeypatch):
    make = Maker()
    open_entry(case, "p", make)

    def utime(path, *_, **__):
        raise PermissionError(1, "Operation not permitted", str(path))

    monkeypatch.setattr(os, "utime", utime)
    assert open_entry(case, "p", make).content == "hash"
    assert make.calls == 1


def test_a_read_only_cache_is_used_and_new_cases_are_kept_elsewhere(case, monkeypatch, tmp_path):
    make = Maker()
    open_entry(case, "p", make)
    before = sorted(_entries())
    other = tmp_path / "writable"
    monkeypatch.setattr(paths, "writable_cache", lambda: other)
    open_entry(case, "p", make)
    assert make.calls == 1
    open_entry(case, "another preprocessing", make)
    assert make.calls == 2
    assert sorted(_entries()) == before
    assert len(list((other / "prepared").iterdir())) == 1
