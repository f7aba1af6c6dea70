"""A training that is killed, at whatever moment, and resumed ends as one that was left alone, bit for bit."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time

import pytest
import torch
import yaml

from cphloc.tracking.run import Run
from cphloc.training import checkpoint
from cphloc.training.train import train


@pytest.fixture(scope="module")
def longer(tiny):
    """Forty steps that use what a resume can get wrong: accumulation, augmentation, workers."""
    made = {**tiny, "name": "longer"}
    made["data"] = {**tiny["data"], "workers": 1, "augment": [{"type": "Affine"}, {"type": "GaussNoise"}]}
    made["train"] = {**tiny["train"], "steps": 40, "validate_every": 8, "accumulate": 2}
    return made


@pytest.mark.slow
@pytest.mark.parametrize(("number", "average"), [(signal.SIGKILL, {"ema": 0.9}), (signal.SIGTERM, {"swa": 0.75})])
def test_a_killed_run_resumes_to_the_same_bits(number, average, longer, at_work):
    longer = {**longer, "train": {**longer["train"], **average}}
    whole = train(longer)
    (at_work / "longer.yaml").write_text(yaml.safe_dump(longer))
    process = subprocess.Popen(
        [sys.executable, "-m", "cphloc.cli", "train", "longer.yaml"], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 300
    while not (begun := _others(whole)) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    seed = time.time_ns()
    time.sleep(random.Random(seed).uniform(0, 2))
    process.send_signal(number)
    _, complaints = process.communicate(timeout=300)
    assert process.returncode == (-number if number == signal.SIGKILL else 1), complaints
    assert number == signal.SIGKILL or "resume with: cphloc train --resume" in complaints
    stopped_at = checkpoint.load(begun[0] / checkpoint.LAST)[1]["outcome"]["step"]
    assert 0 < stopped_at < 40, f"seed {seed}: the signal came too late to show anything"
    resumed = train(resume=begun[0])
    for name in (checkpoint.LAST, checkpoint.BEST):
        alone, parts = (checkpoint.load(run.folder / name)[0] for run in (whole, resumed))
        assert alone.keys() == parts.keys()
        assert all(torch.equal(alone[key], parts[key]) for key in alone), f"seed {seed}, stopped at {stopped_at}"
    assert {n: v for n, v in whole.metrics.items() if n.startswith("val/")} == {
        n: v for n, v in resumed.metrics.items() if n.startswith("val/")
    }


def _others(run: Run) -> list:
    """Folders of other runs that have a checkpoint."""
    found = run.folder.parent.glob(f"*/{checkpoint.LAST}")
    return [path.parent for path in found if path.parent.name != run.folder.name]
