"""Several processes, one training: how they start, who they are, what they share.

torchrun starts them on one machine or on many, and so does SLURM's srun; everything here reads torchrun's environment.
"""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
from collections.abc import Callable
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from cphloc.errors import InputError

T = TypeVar("T")


def start(devices: int = 1, nodes: int = 1) -> None:
    """Become one of ``devices * nodes`` processes.

    Under torchrun or srun this joins the others. Elsewhere, with several ``devices``, this very program is started
    anew under torchrun, and ends here with its exit status.

    Raises:
        InputError: several ``nodes`` without torchrun; or torchrun started another number of processes.
    """
    _from_slurm()
    wanted, there = devices * nodes, count()
    if "WORLD_SIZE" in os.environ:
        if wanted not in (1, there):
            msg = f"{there} processes were started but --devices and --nodes ask for {wanted}; leave them out"
            raise InputError(msg)
        if there > 1 and not dist.is_initialized():
            dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
            atexit.register(dist.destroy_process_group)
        return
    if nodes > 1:
        msg = (
            f"--nodes {nodes}: start it on every machine, `torchrun --nnodes {nodes} ... $(which cphloc) train ...`, "
            "or by srun with a task for each process"
        )
        raise InputError(msg)
    if devices > 1:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={devices}"]
        sys.exit(subprocess.run([*command, *sys.argv], check=False).returncode)


def _from_slurm() -> None:
    """Where srun started the processes, say so in torchrun's words; a batch script by itself is no such process."""
    environment = os.environ
    if "WORLD_SIZE" in environment or int(environment.get("SLURM_STEP_NUM_TASKS", 1)) == 1:
        return
    from lightning.pytorch.plugins.environments import SLURMEnvironment

    tasks, job = environment["SLURM_STEP_NUM_TASKS"], environment["SLURM_JOB_ID"]
    here = int(tasks) // int(environment.get("SLURM_STEP_NUM_NODES", 1))
    first = SLURMEnvironment.resolve_root_node_address(environment["SLURM_NODELIST"])
    environment |= {"MASTER_ADDR": first, "MASTER_PORT": str(15000 + int(job[-4:]))}
    environment |= {"RANK": environment["SLURM_PROCID"], "LOCAL_RANK": environment["SLURM_LOCALID"]}
    environment |= {"WORLD_SIZE": tasks, "LOCAL_WORLD_SIZE": str(here)}
    environment["TORCHELASTIC_RUN_ID"] = job


def count() -> int:
    """Number of processes of this training."""
    return int(os.environ.get("WORLD_SIZE", 1))


def on_this_machine() -> int:
    """How many of them run here."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return not dist.is_initialized() or dist.get_rank() == 0


def share_buffers(model: nn.Module) -> None:
    """Give every process the running statistics of the first one, which are those that are saved."""
    if dist.is_initialized():
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)


def total(value: Tensor) -> Tensor:
    """Sum of ``value`` over all processes."""
    whole = value.detach().clone()
    dist.all_reduce(whole)
    return whole


def from_first(make: Callable[[], T]) -> T:
    """What ``make`` gives on the first process, on every process; the others wait for it."""
    if not dist.is_initialized():
        return make()
    box = [make() if is_first() else None]
    dist.broadcast_object_list(box)
    return box[0]
