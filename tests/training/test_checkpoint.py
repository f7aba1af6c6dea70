"""Checkpoints hold tensors and JSON and nothing else, and survive what can go wrong while writing."""

from __future__ import annotations

import json
import struct

import pytest
import safetensors.torch
import torch
from torch import nn

from cphloc.errors import CphlocError, DataError, NotFoundError
from cphloc.training import checkpoint


def test_a_checkpoint_is_a_json_header_and_raw_numbers(tmp_path):
    path = tmp_path / "a.safetensors"
    weights = {"w": torch.arange(6.0).reshape(2, 3), "n": torch.tensor(7)}
    checkpoint.save(path, weights, {"step": 3, "best": {"dice": 0.5}})
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    assert json.loads(header["__metadata__"]["cphloc"]) == {"step": 3, "best": {"dice": 0.5}}
    start, end = (8 + length + offset for offset in header["w"]["data_offsets"])
    assert struct.unpack("<6f", content[start:end]) == (0, 1, 2, 3, 4, 5)
    tensors, facts = checkpoint.load(path)
    assert facts["step"] == 3
    assert all(torch.equal(tensors[name], weights[name]) for name in weights)


def test_tied_and_strided_tensors_are_stored_whole(tmp_path):
    path, shared = tmp_path / "a.safetensors", torch.randn(4, 4)
    checkpoint.save(path, {"a": shared, "b": shared, "c": shared.T}, {})
    tensors, _ = checkpoint.load(path)
    assert torch.equal(tensors["a"], tensors["b"])
    assert torch.equal(tensors["c"], shared.T)


def test_a_failed_write_leaves_the_checkpoint_before_it(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    checkpoint.save(path, {"w": torch.ones(2)}, {"step": 1})

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(CphlocError, match=r"No space left on device.+free space"):
        checkpoint.save(path, {"w": torch.zeros(2)}, {"step": 2})
    assert checkpoint.load(path)[1] == {"step": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_missing_a_damaged_and_a_foreign_file_are_told_apart(tmp_path):
    with pytest.raises(NotFoundError, match="no checkpoint here"):
        checkpoint.load(tmp_path / "none.safetensors")
    damaged, foreign = tmp_path / "d.safetensors", tmp_path / "f.safetensors"
    checkpoint.save(damaged, {"w": torch.ones(100)}, {})
    damaged.write_bytes(damaged.read_bytes()[:-40])
    safetensors.torch.save_file({"w": torch.ones(1)}, foreign)
    for path in (damaged, foreign):
        with pytest.raises(DataError, match="not a complete cphloc checkpoint"):
            checkpoint.load(path)


@pytest.mark.parametrize("kind", ["SGD", "AdamW", "NAdam", "RMSprop", "RAdam"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_an_optimizer_goes_on_as_if_it_had_not_stopped(kind, layout, tmp_path):
    def made():
        torch.manual_seed(0)
        model = nn.Conv2d(2, 3, 3).to(memory_format=layout)
        return model, getattr(torch.optim, kind)(model.parameters(), lr=0.01)

    def step(model, optimizer, number):
        torch.manual_seed(number)
        optimizer.zero_grad()
        model(torch.randn(1, 2, 5, 5)).square().sum().backward()
        optimizer.step()

    whole = made()
    for number in range(6):
        step(*whole, number)
        if number == 2:
            moments, numbers = checkpoint.optimizer_state(*whole)
            weights = {f"model/{n}": v for n, v in whole[0].state_dict().items()}
            checkpoint.save(tmp_path / "c.safetensors", weights | moments, numbers)
    tensors, numbers = checkpoint.load(tmp_path / "c.safetensors")
    resumed = made()
    resumed[0].load_state_dict({n.removeprefix("model/"): v for n, v in tensors.items() if n.startswith("model/")})
    moments = {n: v for n, v in tensors.items() if not n.startswith("model/")}
    checkpoint.restore_optimizer(*resumed, moments, numbers)
    for number in range(3, 6):
        step(*resumed, number)
    pairs = zip(whole[0].parameters(), resumed[0].parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_folder_that_cannot_be_written_is_refused_before_training(tmp_path):
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    with pytest.raises(CphlocError, match="cannot write here"):
        checkpoint.check_space(in_the_way, nn.Linear(1, 1))


def test_a_full_disk_is_refused_before_training(tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 2**20})
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(CphlocError, match="1 MB free but the checkpoints need"):
        checkpoint.check_space(tmp_path, nn.Linear(1, 1))
