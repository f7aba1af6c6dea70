from __future__ import annotations

import pytest

from cphloc.errors import CphlocError
from cphloc.paths import atomic


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
