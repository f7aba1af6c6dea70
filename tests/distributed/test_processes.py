"""Two processes on this machine, talking by gloo, train what one does, each with the whole model or half of it."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml

from cphloc import build
from cphloc.distributed import processes
from cphloc.errors import InputError
from cphloc.ops.targets import Targets
from cphloc.recipe.recipe import load
from cphloc.structures.annotation import Annotation
from cphloc.training import checkpoint
from cphloc.training.micro_batches import MicroBatch, cases_of
from cphloc.training.module import TrainingModule
from cphloc.training.preparation import prepare
from cphloc.training.settings import Settings
from cphloc.training.train import train


def started(folder, count, strategy, stop_at=0, cases=4):
    """Train in ``folder`` in so many processes."""
    folder.mkdir(exist_ok=True)
    script = str(Path(__file__).parent / "sharing.py")
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"] if count > 1 else []
    command = [sys.executable, *launcher, script, str(folder), strategy, str(stop_at), str(cases)]
    subprocess.run(command, check=True, timeout=600)


@pytest.mark.slow
def test_two_processes_give_the_weights_and_metrics_of_one_whole_or_sharded(tmp_path):
    started(tmp_path / "one", 1, "ddp")
    started(tmp_path / "ddp", 2, "ddp")
    started(tmp_path / "fsdp", 2, "fsdp", stop_at=2)
    started(tmp_path / "fsdp", 2, "fsdp")
    for name in (checkpoint.LAST, checkpoint.BEST):
        one, facts = checkpoint.load(tmp_path / "one" / name)
        for strategy in ("ddp", "fsdp"):
            two, found = checkpoint.load(tmp_path / strategy / name)
            assert one.keys() == two.keys()
            assert all(torch.allclose(one[key], two[key], atol=1e-5) for key in one), (strategy, name)
            if name == checkpoint.BEST:
                assert found["metrics"]["loss"] == pytest.approx(facts["metrics"]["loss"], abs=1e-5)


@pytest.mark.slow
def test_four_and_eight_processes_give_the_weights_of_one(tmp_path):
    started(tmp_path / "one", 1, "ddp", cases=8)
    one, _ = checkpoint.load(tmp_path / "one" / checkpoint.LAST)
    for count, strategy in ((4, "ddp"), (8, "ddp"), (4, "fsdp")):
        folder = tmp_path / f"{strategy}{count}"
        started(folder, count, strategy, cases=8)
        many, _ = checkpoint.load(folder / checkpoint.LAST)
        assert one.keys() == many.keys()
        assert all(torch.allclose(one[key], many[key], atol=1e-5) for key in one), folder.name


@pytest.mark.parametrize("dims", [2, 3])
def test_the_gradients_of_two_processes_add_up_to_that_of_the_whole_batch(dims, monkeypatch):
    """Of four cases one process has two with a mask, the other has one; the mean over both is that of one process."""
    torch.manual_seed(0)
    head = {"type": "unet", "classes": {1: "mass"}, "loss": {"type": "dice_ce"}}
    parts = {"backbone": {"type": "conv_encoder", "widths": [4, 8]}, "heads": {"mask": head}}
    data = {"type": "phantom", "size": [16] * dims, "patch": [16] * dims}
    model = build({"task": "segmentation", "dims": dims, "data": data, "model": parts})
    images = torch.randn(4, 1, *[16] * dims)
    masks = [Annotation(mask=(image[0] > 1).numpy().astype(np.uint8)) for image in images]
    annotations = [*masks[:3], Annotation(label=np.ones(1, np.float32))]
    module = TrainingModule(model, None, Settings(steps=1, rungs={"mask": "mask"}))
    module._trainer = SimpleNamespace(world_size=2)
    monkeypatch.setattr(processes, "total", lambda here: torch.tensor([3.0]))

    def gradient(first, last, share):
        model.zero_grad()
        targets = Targets.collate(annotations[first:last], (16,) * dims, classes=1)
        losses = model.loss(model.outputs(images[first:last]), targets)
        cases = cases_of(model, {"mask": "mask"}, targets)
        share(losses, MicroBatch(images, targets, cases, cases)).backward()
        return torch.cat([p.grad.flatten() for p in model.parameters()])

    whole = gradient(0, 4, lambda losses, _: losses["loss"])
    parts = [gradient(*part, partial(module._balanced_loss, parts=2)) for part in ((0, 2), (2, 4))]
    torch.testing.assert_close(sum(parts) / 2, whole, rtol=1e-4, atol=1e-6)
    unshared = [gradient(*part, lambda losses, _: losses["loss"]) for part in ((0, 2), (2, 4))]
    assert not torch.allclose(sum(unshared) / 2, whole, rtol=1e-2), "without it they do not"


@pytest.mark.slow
def test_the_command_gives_the_same_with_cases_of_uneven_number_and_annotation(at_work):
    """Three validation cases for two processes, and batches in which one process has no mask to learn from."""
    recipe = {
        **{"name": "shared", "task": "segmentation", "dims": 2},
        "data": {
            **{"type": "phantom", "size": [32, 32], "patch": [32, 32], "cases": {"train": 6, "val": 3, "test": 1}},
            **{"annotated": {"mask": 0.5}, "diameter_mm": [6.0, 10.0], "workers": 0},
        },
        "model": {
            "backbone": {"type": "conv_encoder", "widths": [4, 8]},
            "heads": {
                "mask": {"type": "unet", "classes": {1: "mass"}, "loss": {"type": "dice_ce"}},
                "finding": {"type": "gap", "classes": {1: "mass"}},
            },
        },
        "train": {"steps": 9, "batch": 2, "validate_every": 3, "precision": "32"},
    }
    (at_work / "shared.yaml").write_text(yaml.safe_dump(recipe))
    batches = prepare(load("shared.yaml")).batches()(0, 0, 1)
    annotated = {tuple(batch.targets.has_mask.tolist()) for batch in itertools.islice(batches, 9)}
    assert {(True, False), (False, True)} & annotated, "one process has no mask"
    command = [sys.executable, "-m", "cphloc.cli", "train", "shared.yaml", "--json"]
    made = {}
    for name in ("one", "ddp", "fsdp"):
        shared = [] if name == "one" else ["--devices", "2", "--strategy", name]
        done = subprocess.run([*command, *shared], check=False, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        made[name] = json.loads(done.stdout)
    weights = {name: checkpoint.load(Path(run["folder"]) / checkpoint.LAST)[0] for name, run in made.items()}
    rows = {name: (Path(run["folder"]) / "cases.csv").read_text().count("\n") for name, run in made.items()}
    for name in ("ddp", "fsdp"):
        for metric, value in made["one"]["metrics"].items():
            assert metric == "train/seconds" or made[name]["metrics"][metric] == pytest.approx(value, abs=1e-3), metric
        assert all(torch.allclose(weights["one"][key], weights[name][key], atol=1e-4) for key in weights["one"])
        assert rows[name] == rows["one"] == 4


def test_a_batch_that_cannot_be_shared_and_a_lonely_shard_are_refused_before_anything_is_made(
    tiny, at_work, monkeypatch
):
    with pytest.raises(InputError, match="add --devices N"):
        train(tiny, strategy="fsdp")
    monkeypatch.setattr(processes, "count", lambda: 3)
    with pytest.raises(InputError, match="2 cannot be divided equally among 3 processes"):
        prepare(load(tiny))
    assert list(at_work.iterdir()) == []


@pytest.mark.parametrize(
    ("end", "status", "said"),
    [("sys.exit(2)", 2, ""), ("os.kill(os.getpid(), 9)", 1, "ended with SIGKILL; memory ran out")],
)
def test_a_process_that_fails_shows_its_own_message_alone(tmp_path, end, status, said):
    script = tmp_path / "fails.py"
    script.write_text(f"import os, sys\nprint('data.root: no such folder', file=sys.stderr, flush=True)\n{end}\n")
    command = [sys.executable, "-m", "cphloc.distributed.launch", "--standalone", "--nproc-per-node=2", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == status
    own = "data.root: no such folder"  # of two processes, whose lines may be mixed
    lines = [line for line in done.stderr.replace(own, "").splitlines() if line]
    assert all("process" in line and said in line for line in lines), done.stderr
    assert len(lines) == bool(said)


def test_several_machines_need_torchrun(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(InputError, match="torchrun --nnodes 2"):
        processes.start(nodes=2)


@pytest.mark.parametrize(
    ("gpus", "devices", "message"),
    [
        (
            0,
            99,
            "--devices 99: this machine has no GPU that PyTorch finds, and 4 processors; give a number from 1 to 4",
        ),
        (1, 2, "--devices 2: this machine has 1 GPU; give a number from 1 to 1"),
        (2, 0, "--devices 0: this machine has 2 GPUs; give a number from 1 to 2"),
    ],
)
def test_more_devices_than_there_are_are_refused(monkeypatch, gpus, devices, message):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setattr(processes.torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(processes.os, "cpu_count", lambda: 4)
    with pytest.raises(InputError, match=message):
        processes.start(devices)


def test_another_number_of_processes_than_torchrun_started_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="2 processes were started"):
        processes.start(devices=3)


def test_what_srun_started_is_understood(monkeypatch):
    """The variables that SLURM documents for the third of four tasks, two on each of two machines."""
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "")
    slurm = {
        "NODELIST": "node[03-04]",
        "JOB_ID": "1234567",
        "NTASKS": "4",
        "PROCID": "2",
        "LOCALID": "0",
        "NODEID": "1",
    }
    for name, value in {**slurm, "STEP_NUM_TASKS": "4", "STEP_NUM_NODES": "2"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    joined = []
    monkeypatch.setattr(processes.dist, "is_initialized", lambda: False)
    monkeypatch.setattr(processes.dist, "init_process_group", joined.append)
    monkeypatch.setattr(processes.atexit, "register", lambda function: None)
    processes.start()
    assert joined == ["gloo"]
    assert (processes.count(), processes.on_this_machine(), os.environ["RANK"]) == (4, 2, "2")
    assert os.environ["MASTER_ADDR"] == "node03"


def test_a_batch_script_of_slurm_is_no_process_of_many(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.delenv("SLURM_STEP_NUM_TASKS", raising=False)
    monkeypatch.setenv("SLURM_NTASKS", "4")
    processes.start()
    assert processes.count() == 1
