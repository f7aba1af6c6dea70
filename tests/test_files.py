from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cphloc import files
from cphloc.data.io.source_files import source_files
from cphloc.errors import CphlocError
from cphloc.files import atomic, atomic_folder


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


def test_a_file_and_its_name_are_on_the_disk_before_it_counts(tmp_path, monkeypatch):
    done, sync, replace = [], os.fsync, os.replace

    def synced(handle: int) -> None:
        done.append(os.readlink(f"/proc/self/fd/{handle}"))
        sync(handle)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", lambda source, to: (done.append("renamed"), replace(source, to)))
    with atomic(tmp_path / "a.json") as temporary:
        temporary.write_text("{}")
    assert done == [str(temporary), "renamed", str(tmp_path)]


def test_what_a_killed_process_left_is_removed_and_what_another_one_writes_stays(tmp_path):
    mine = files.temporary_beside(tmp_path / "a.json")
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    dead, old, fresh = (tmp_path / mine.name.replace(f"-{os.getpid()}-", f"-{pid}-") for pid in (child.pid, 1, 1))
    old = old.with_name(old.name.replace("a.json", "old.json"))
    own = [tmp_path / name for name in (".cphloc", ".hidden", ".cphloc-notes", "a.json")]
    for path in (mine, old, fresh, *own):
        path.touch()
    dead.mkdir()
    (dead / "half").touch()
    os.utime(old, (0, 0))
    files.remove_leftovers(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([mine, fresh, *own])


def test_a_line_is_appended_whole_or_not_at_all(tmp_path, monkeypatch):
    log = tmp_path / "log.jsonl"
    log.write_bytes(b'{"a": 1}\n{"b"')
    files.append(log, b'{"c": 3}\n')
    whole = b'{"a": 1}\n{"b"\n{"c": 3}\n'
    assert log.read_bytes() == whole

    class Full(io.FileIO):
        def write(self, content):
            return super().write(bytes(content)[:3])  # what a full disk still takes

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda path, mode, buffering: Full(path, mode.replace("b", "")))
        with pytest.raises(CphlocError, match=r"log\.jsonl: cannot be written \(.+disk may be full\); free space"):
            files.append(log, b'{"d": 4}\n')
    assert log.read_bytes() == whole


def test_a_file_in_a_temporary_folder_is_named_as_the_user_knows_it(tmp_path):
    target = tmp_path / "entry"
    with pytest.raises(CphlocError) as caught, atomic_folder(target) as aside, atomic(aside / "weights"):
        raise OSError(28, "No space left on device")
    assert (
        str(caught.value)
        == f"{target}: cannot be written (No space left on device); free space, or choose another folder"
    )


def test_what_is_being_written_is_no_input(tmp_path):
    (tmp_path / "scan.dcm").touch()
    with files.temporary_folder(tmp_path / "case") as aside:
        (aside / "case_seg.dcm").touch()
        files.temporary_beside(tmp_path / "case_mask.nii.gz").touch()
        assert source_files(tmp_path) == [tmp_path / "scan.dcm"]
        assert source_files(aside) == [aside / "case_seg.dcm"], "as publishing reads the sample before it has its place"
