"""Two processes on this machine, talking by gloo, train what one does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cphloc.errors import InputError
from cphloc.training import checkpoint, processes

SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from dataclasses import replace
import torch
from torch import nn
from test_fit import SETTINGS, batches_of, held_out
from cphloc.training import processes
from cphloc.training.fit import fit

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(1, 2, 3, padding=1)
    def raws(self, image):
        return {{"mask": self.conv(image)}}
    def loss(self, raws, targets):
        return {{"loss": nn.functional.cross_entropy(raws["mask"], targets.masks)}}

processes.start()
folder = Path(processes.from_first(lambda: sys.argv[1]))
outcome = fit(Model(), batches_of(2, per_batch=4), held_out(2), replace(SETTINGS, steps=6, validate_every=3), folder)
assert outcome.step == 6 and outcome.best["loss"] > 0
"""


@pytest.mark.slow
def test_two_processes_give_the_weights_of_one(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(tests=str(Path(__file__).parent)))
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    for name, launcher in (("one", []), ("two", torchrun)):
        (tmp_path / name).mkdir()
        command = [sys.executable, *launcher, str(script), str(tmp_path / name)]
        subprocess.run(command, check=True, timeout=600)
    one, two = (checkpoint.load(tmp_path / name / checkpoint.LAST)[0] for name in ("one", "two"))
    assert one.keys() == two.keys()
    assert all(torch.allclose(one[key], two[key], atol=1e-5) for key in one)


def test_several_machines_need_torchrun(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(InputError, match="torchrun --nnodes 2"):
        processes.start(nodes=2)


def test_another_number_of_processes_than_torchrun_started_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="torchrun started 2 processes"):
        processes.start(devices=3)
