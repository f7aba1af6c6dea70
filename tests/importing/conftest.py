"""Checkpoints that several tests import are unpickled once, because each takes a process of its own."""

import hashlib

import pytest

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
