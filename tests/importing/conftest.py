"""Checkpoints that several tests import are unpickled once, because each takes a process of its own."""

import hashlib
import os

import pytest
import torch

from cphloc.importing import nnunet
from cphloc.importing.checkpoint import read_checkpoint

_READ = {}


@pytest.fixture(autouse=True)
def read_once(monkeypatch):
    def read(path):
        key = hashlib.sha256(path.read_bytes()).digest()
        if key not in _READ:
            _READ[key] = read_checkpoint(path)
        return _READ[key]

    monkeypatch.setattr(nnunet, "read_checkpoint", read)


@pytest.fixture
def hostile():
    """Write a checkpoint whose pickle would make the file ``mark`` beside it."""

    class Asks:
        def __init__(self, mark):
            self.mark = mark

        def __reduce__(self):
            return os.system, (f"touch {self.mark}",)

    def written(path):
        torch.save({"state_dict": {"weight": torch.zeros(1)}, "epoch": Asks(path.parent / "mark")}, path)
        return path

    return written
