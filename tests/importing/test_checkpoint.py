"""Checkpoints are read without running what they name; whatever else they ask for is named and refused."""

import collections
import io
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch

from cphloc.errors import DataError, NotFoundError
from cphloc.importing.checkpoint import read_checkpoint


class _Asks:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def test_a_checkpoint_of_nnunet_is_read_with_its_numpy_scalars(tmp_path):
    content = {
        "network_weights": collections.OrderedDict(a=torch.arange(3.0)),
        "_best_ema": np.float64(0.5),
        "counts": [np.int64(3), np.float32(2), np.bool_(True)],
        "init_args": {"device": torch.device("cuda"), "fold": 0},
        "axes": (0, 1),
    }
    torch.save(content, tmp_path / "a.pth")
    read = read_checkpoint(tmp_path / "a.pth")
    assert read.below("network_weights")["a"].tolist() == [0, 1, 2]
    assert read.facts["_best_ema"] == 0.5
    assert read.facts["counts"] == [3, 2.0, True]
    assert read.facts["axes"] == [0, 1]


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        (lambda mark: _Asks(os.system, f"touch {mark}"), "posix.system"),
        (lambda mark: {"w": torch.zeros(1), "x": _Asks(eval, f"open({str(mark)!r}, 'w')")}, "builtins.eval"),
        (lambda mark: [np.array([_Asks(os.mkdir, str(mark))], dtype=object)], "posix.mkdir"),
        (lambda mark: torch.nn.Conv2d(1, 1, 1), "torch.nn.modules.conv.Conv2d"),
    ],
    ids=["system", "eval", "inside-an-array", "module"],
)
def test_a_hostile_pickle_is_refused_and_named(tmp_path, asked, named):
    _check_refused(tmp_path, asked, named, "zip")


@pytest.mark.parametrize("how", ["legacy", "pickle"])
def test_former_formats_are_refused_too(tmp_path, how):
    _check_refused(tmp_path, lambda mark: [torch.zeros(1), _Asks(os.system, f"touch {mark}")], "posix.system", how)


def _check_refused(tmp_path, asked, named, how):
    mark, path = tmp_path / "mark", tmp_path / "bad.pth"
    if how == "pickle":
        path.write_bytes(pickle.dumps(asked(mark)))
    else:
        torch.save(asked(mark), path, _use_new_zipfile_serialization=how == "zip")
    with pytest.raises(DataError) as error:
        read_checkpoint(path)
    assert named in str(error.value)
    assert str(path) in str(error.value)
    assert not mark.exists()


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("hello.txt", "hello")
    for name, content in {"junk": b"hello", "empty": b"", "zip": stream.getvalue()}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=name):
            read_checkpoint(tmp_path / name)
    with pytest.raises(NotFoundError, match="absent"):
        read_checkpoint(tmp_path / "absent.pth")
