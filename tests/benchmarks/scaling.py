"""``python -m tests.benchmarks.scaling``: a cost model of training on many devices, and what calibrates it.

Writes ``SCALING.md``. Each process of the measurement counts the bytes that it hands to collective operations.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
DEVICES = (1, 8, 16, 32, 64, 128, 256, 512)
STEPS, BATCH, SIDE = 6, 8, 32
WIDTHS = (16, 32, 64, 128)
COLLECTIVES = {
    "all_reduce": 2.0,
    "all_gather_single": 1.0,
    "all_gather_into_tensor": 1.0,
    "reduce_scatter_single": 1.0,
    "reduce_scatter_tensor": 1.0,
}
"""Collective operation, by its present or earlier name in torch -> how many times (n - 1) / n of its whole tensor each
of n devices sends, in a ring."""


@dataclass(frozen=True)
class Machine:
    """A device and its network.

    Args:
        name: in words.
        flops: floating-point operations per second of a training step.
        bytes_per_second: that a device sends while it receives as many.
        latency: seconds of one message.
        memory: bytes of a device.
    """

    name: str
    flops: float
    bytes_per_second: float
    latency: float
    memory: float


@dataclass(frozen=True)
class Job:
    """A training.

    Args:
        name: in words.
        parameters: of the network.
        flops: of one forward pass of one sample.
        activations: bytes kept for the backward pass of one sample.
        batch: samples of a step on each device.
        messages: collective operations of a step: buckets of gradients, or parts of a sharded network.
        largest: share of the parameters in the largest part that FSDP gathers at once.
    """

    name: str
    parameters: float
    flops: float
    activations: float
    batch: int
    messages: int
    largest: float = 0.25


@dataclass(frozen=True)
class Cost:
    """What a step costs a device: seconds of work, seconds and bytes of communication, bytes of memory."""

    work: float
    communication: float
    sent: float
    memory: float

    @property
    def seconds(self) -> float:
        """Time of a step, of which the last message of three begins when the backward pass has ended."""
        backward = self.work * 2 / 3
        return self.work + max(self.communication - backward, self.communication / 3)


def cost(job: Job, machine: Machine, devices: int, strategy: str) -> Cost:
    """Return what a step costs each of some devices.

    Work is three forward passes of the samples of a device. DDP sums the gradients in a ring, in which a device sends
    2 (n - 1) / n of them; FSDP gathers the parameters for the forward and for the backward pass and scatters the
    gradients, 3 (n - 1) / n. Numbers are of 4 bytes. DDP keeps parameters, gradients and two moments of AdamW, FSDP an
    n-th of them and the largest part whole.

    >>> job = Job("j", parameters=1e6, flops=1e9, activations=1e6, batch=8, messages=1)
    >>> machine = Machine("m", flops=1e12, bytes_per_second=1e9, latency=0, memory=1e9)
    >>> ddp, fsdp = (cost(job, machine, 2, strategy) for strategy in ("ddp", "fsdp"))
    >>> ddp.sent, fsdp.sent, ddp.memory, fsdp.memory
    (4000000.0, 6000000.0, 24000000.0, 17000000.0)
    """
    times = 2 if strategy == "ddp" else 3
    sent = times * (devices - 1) / devices * 4 * job.parameters
    steps_of_ring = times * (devices - 1) * job.messages
    communication = sent / machine.bytes_per_second + steps_of_ring * machine.latency
    states = 16 * job.parameters
    if strategy == "fsdp":
        states = states / devices + 4 * job.largest * job.parameters
    work = 3 * job.batch * job.flops / machine.flops
    return Cost(work, communication, sent, states + job.batch * job.activations)


@contextmanager
def counted() -> Iterator[dict[str, float]]:
    """Context manager that yields the bytes of the tensors of each collective operation, as they are called."""
    import torch.distributed as dist

    found: dict[str, float] = dict.fromkeys(COLLECTIVES, 0.0)

    def counting(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **kwargs: Any) -> Any:
            tensors = [t for t in (*args, *kwargs.values()) if hasattr(t, "nbytes")]
            found[name] += max((t.nbytes for t in tensors), default=0)
            return real(*args, **kwargs)

        return called

    before = {name: getattr(dist, name) for name in COLLECTIVES if hasattr(dist, name)}
    for name, real in before.items():
        setattr(dist, name, counting(name, real))
    try:
        yield found
    finally:
        for name, real in before.items():
            setattr(dist, name, real)


def member(strategy: str, out: Path) -> None:
    """Run the steps of one process, and let the first write seconds and bytes of a step, and a sum of the weights."""
    import torch
    import torch.distributed as dist

    from cphloc.components.backbone.conv_encoder import ConvEncoder
    from cphloc.components.head.unet import UNet
    from cphloc.distributed.sharding import shard
    from cphloc.modeling.model import Model

    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, ranks = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(0)
    backbone = ConvEncoder(1, 3, WIDTHS)
    network: Any = Model(backbone, None, {"mask": UNet(backbone.levels, ["organ"], deep_supervision=False)})
    parameters = sum(p.numel() for p in network.parameters())
    image, target = torch.randn(BATCH, 1, *[SIDE] * 3), torch.randint(0, 2, (BATCH, *[SIDE] * 3))
    reduced, flops = [0.0], _flops(network, image)
    if strategy == "fsdp" and ranks > 1:
        from torch.distributed.device_mesh import init_device_mesh

        shard(network, init_device_mesh("cpu", (ranks,)))
    elif ranks > 1:
        network = torch.nn.parallel.DistributedDataParallel(network)

        def hook(state, bucket):  # DDP refuses annotations as text
            reduced[0] += bucket.buffer().nbytes
            whole = dist.all_reduce(bucket.buffer().div_(ranks), async_op=True)
            return whole.get_future().then(lambda done: done.value()[0])

        network.register_comm_hook(None, hook)
    optimizer = torch.optim.SGD(network.parameters(), 0.01)
    mine = slice(rank * BATCH // ranks, (rank + 1) * BATCH // ranks)
    seconds = []
    with counted() as found:
        for step in range(STEPS):
            if step == 1:  # the first one lays out buckets and parts
                reduced[0] = 0.0
                found.update(dict.fromkeys(found, 0.0))
            started = time.perf_counter()
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(image[mine]), target[mine]).backward()
            optimizer.step()
            seconds.append(time.perf_counter() - started)
    if strategy == "ddp":
        found = {"all_reduce": reduced[0]}
    sums = [p.full_tensor() if hasattr(p, "full_tensor") else p.detach() for p in network.parameters()]
    if rank == 0:
        facts = {
            "processes": ranks,
            "strategy": strategy,
            "parameters": parameters,
            "flops": flops,
            "seconds": statistics.median(seconds[1:]),
            "weights": float(sum(tensor.double().abs().sum() for tensor in sums)),
            "bytes": {name: number / (STEPS - 1) for name, number in found.items() if number},
        }
        out.write_text(json.dumps(facts))
    dist.barrier()
    dist.destroy_process_group()


def _flops(network: Any, image: Any) -> float:
    """Operations of one forward pass of one sample."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image[:1])
    return float(counter.get_total_flops())


def calibrated(rows: list[dict[str, Any]]) -> Iterator[tuple[Job, Machine]]:
    """Yield the measured training, and a machine whose figures make the model say what one and two processes took."""
    times = {(row["processes"], row["strategy"]): row["seconds"] for row in rows}
    if not {(1, "ddp"), (2, "ddp")} <= times.keys():
        return
    one = rows[0]
    job = Job("the measured training, 4 samples each", one["parameters"], one["flops"], 0, BATCH // 2, 1)
    flops = 3 * BATCH * one["flops"] / times[1, "ddp"]
    exposed = max(times[2, "ddp"] - times[1, "ddp"] / 2, 1e-3)
    rate = cost(job, Machine("", flops, 1, 0, 1), 2, "ddp").sent / exposed / 3
    words = f"calibrated by it: {flops / 1e9:.0f} GFLOP/s, {rate / 1e6:.0f} MB/s"
    yield job, Machine(words, flops, rate, 0, 8e9)


def measured(processes: int, strategy: str) -> dict[str, Any]:
    """Train in so many processes of this machine, and return what the first has measured."""
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "facts.json")
        command = [sys.executable, "-W", "ignore", *launch, __file__, strategy, str(out)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr[:3000])
        return json.loads(out.read_text())


def sent(facts: dict[str, Any]) -> float:
    """Bytes that a process sends in a step, in a ring."""
    share = (facts["processes"] - 1) / facts["processes"]
    return sum(COLLECTIVES[name] * share * number for name, number in facts["bytes"].items())


def main() -> None:
    """Measure 1 and 2 processes, or as many as the words of the command line say, and write the page."""
    counts = [int(word) for word in sys.argv[1:]] or [1, 2]
    rows = [measured(n, strategy) for n in counts for strategy in (("ddp",) if n == 1 else ("ddp", "fsdp"))]
    (HERE / "SCALING.md").write_text(page(rows), encoding="utf-8")
    print(page(rows))


JOBS = (
    Job("3-D U-Net of nnU-Net's size: 31 M parameters, patch 128^3, batch 2", 31e6, 5.3e11, 9e9, 2, 10),
    Job("ResEnc U-Net L: 102 M parameters, patch 192^3, batch 2", 102e6, 2.9e12, 20e9, 2, 30),
)
"""Operations and memory of a sample are of the order that such networks have; they are not measured here."""
MACHINES = (
    Machine("GPUs of 60 TFLOP/s in use, 25 GB/s between them", 6e13, 25e9, 1e-5, 80e9),
    Machine("nodes of 1 TFLOP/s of CPU, 10 Gbit/s Ethernet", 1e12, 1.25e9, 5e-5, 128e9),
)
"""Figures of data sheets and of common practice, not measured here."""


ABOUT = """# Training on many devices: a model, not a measurement

Written by `python -m tests.benchmarks.scaling`. Only the first table is measured, on the processors of one machine, by
processes that talk through gloo. The others are computed by `cost` in `tests/benchmarks/scaling.py`; nothing in them
has been measured on a cluster.

## Measured: processes of one machine

A 3-D U-Net of {parameters:,} parameters, {batch} samples of {side}^3 voxels in all, SGD, one thread each. The bytes are
those of the tensors given to collective operations, times what a ring sends of them. The processes share one machine
with whatever else runs there: times are upper bounds. Equal sums of the weights mean equal trainings.
"""
OF_A_STEP = """
A step takes its work, and of the communication what the backward pass, two thirds of the work, does not hide; at least
a third, because the last gradients are ready at its end. `share` is the work's share of the step: 100 % is a perfect
speed-up. Every device has the same number of samples however many there are (weak scaling)."""


def page(rows: list[dict[str, Any]]) -> str:
    """Return the text of ``SCALING.md``."""
    head = ["processes", "strategy", "s a step", "bytes sent a step", "by the model", "sum of the weights"]
    lines = [ABOUT.format(parameters=rows[0]["parameters"], batch=BATCH, side=SIDE), *_line(head), *_line(["---"] * 6)]
    for row in rows:
        n, times = row["processes"], {"ddp": 2, "fsdp": 3}[row["strategy"]]
        said = times * (n - 1) / n * 4 * row["parameters"]
        name = row["strategy"] if n > 1 else "alone"
        cells = [n, name, f"{row['seconds']:.2f}", f"{sent(row):,.0f}", f"{said:,.0f}", f"{row['weights']:.4f}"]
        lines += _line(cells)
    lines += ["", "## The model", "", *_paragraphs(cost.__doc__ or ""), *OF_A_STEP.splitlines()]
    pairs = [*calibrated(rows), *((job, machine) for machine in MACHINES for job in JOBS)]
    for job, machine in pairs:
        lines += ["", f"### {job.name}; {machine.name}", "", *_table(job, machine)]
    return "\n".join(lines) + "\n"


def _line(cells: list[Any]) -> list[str]:
    return [f"| {' | '.join(map(str, cells))} |"]


def _paragraphs(text: str) -> list[str]:
    """The middle paragraph of a docstring."""
    return [line.strip() for line in text.split("\n\n")[1].splitlines()]


def _table(job: Job, machine: Machine) -> list[str]:
    head = ["devices", "work, s"]
    head += [f"{s}: {what}" for s in ("ddp", "fsdp") for what in ("sends, MB", "step, s", "share", "memory, GB")]
    lines = [*_line(head), *_line(["---"] * len(head))]
    for devices in DEVICES:
        cells = [f"{devices}", f"{cost(job, machine, devices, 'ddp').work:.3g}"]
        for strategy in ("ddp", "fsdp"):
            found = cost(job, machine, devices, strategy)
            memory = f"{found.memory / 1e9:.1f}{'' if found.memory <= machine.memory else ' (too much)'}"
            share = f"{found.work / found.seconds:.0%}"
            cells += [f"{found.sent / 1e6:.0f}", f"{found.seconds:.3g}", share, memory]
        lines += _line(cells)
    return lines


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] in ("ddp", "fsdp"):
        member(sys.argv[1], Path(sys.argv[2]))
    else:
        main()
