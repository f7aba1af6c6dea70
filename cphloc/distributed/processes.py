"""Start and count the processes of a distributed training, and exchange values between them.

The processes are started by torchrun or by SLURM's srun, on one or several machines. The functions read the environment
variables of torchrun.
"""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from cphloc.errors import InputError, counted

T = TypeVar("T")


def start(devices: int = 1, nodes: int = 1) -> None:
    """Start a distributed training with ``devices * nodes`` processes, or join it.

    Under torchrun or srun, this process joins the others. Otherwise, if ``devices`` is greater than 1, this program is
    restarted under torchrun, and this process exits with its status.

    Args:
        devices: processes on each machine.
        nodes: number of machines.

    Raises:
        InputError: several ``nodes`` without torchrun, more ``devices`` than this machine has GPUs (without any,
            processors), or torchrun started a different number of processes.
    """
    _from_slurm()
    requested, started = devices * nodes, count()
    if "WORLD_SIZE" in os.environ:
        if requested not in (1, started):
            msg = f"{started} processes were started but --devices and --nodes request {requested}; omit both options"
            raise InputError(msg)
        if started > 1 and not dist.is_initialized():
            dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
            atexit.register(dist.destroy_process_group)
        return
    if nodes > 1:
        msg = (
            f"--nodes {nodes}: start the training on every machine with `torchrun --nnodes {nodes} ... $(which cphloc) "
            "train ...`, or with srun and one task per process"
        )
        raise InputError(msg)
    _check_devices(devices)
    if devices > 1:
        command = [sys.executable, "-m", "cphloc.distributed.launch", "--standalone", f"--nproc-per-node={devices}"]
        sys.exit(subprocess.run([*command, *sys.argv], check=False).returncode)


def _check_devices(devices: int) -> None:
    """Refuse a number of processes that this machine has no GPUs for; without any GPU, no processors."""
    gpus, processors = torch.cuda.device_count(), os.cpu_count() or 1
    most = gpus or max(processors, 2)
    if not 1 <= devices <= most:
        has = counted(gpus, "GPU") if gpus else f"no GPU that PyTorch finds, and {counted(processors, 'processor')}"
        msg = f"--devices {devices}: this machine has {has}; give a number from 1 to {most}"
        raise InputError(msg)


def _from_slurm() -> None:
    """Set torchrun's environment variables from SLURM's, if srun started this process."""
    environment = os.environ
    if "WORLD_SIZE" in environment or int(environment.get("SLURM_STEP_NUM_TASKS", 1)) == 1:
        return
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

    tasks, job = environment["SLURM_STEP_NUM_TASKS"], environment["SLURM_JOB_ID"]
    here = int(tasks) // int(environment.get("SLURM_STEP_NUM_NODES", 1))
    first = SLURMEnvironment.resolve_root_node_address(environment["SLURM_NODELIST"])
    environment |= {"MASTER_ADDR": first, "MASTER_PORT": str(15000 + int(job[-4:]))}
    environment |= {"RANK": environment["SLURM_PROCID"], "LOCAL_RANK": environment["SLURM_LOCALID"]}
    environment |= {"WORLD_SIZE": tasks, "LOCAL_WORLD_SIZE": str(here)}
    environment["TORCHELASTIC_RUN_ID"] = job


def count() -> int:
    """Return the number of processes of this training."""
    return int(os.environ.get("WORLD_SIZE", 1))


def on_this_machine() -> int:
    """Return the number of processes of this training on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def is_first() -> bool:
    """Return True in the first process (rank 0), which writes files."""
    return not dist.is_initialized() or dist.get_rank() == 0


def share_buffers(model: nn.Module) -> None:
    """Copy the buffers of ``model`` (such as running statistics) from the first process to all others."""
    if dist.is_initialized():
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)


def total(value: Tensor) -> Tensor:
    """Return the sum of ``value`` over all processes; needs an initialized process group."""
    whole = value.detach().clone()
    dist.all_reduce(whole)
    return whole


def from_first(make: Callable[[], T]) -> T:
    """Call ``make`` in the first process only and return its result in every process."""
    if not dist.is_initialized():
        return make()
    shared: list[Any] = [make() if is_first() else None]
    dist.broadcast_object_list(shared)
    return shared[0]
