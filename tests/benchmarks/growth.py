"""How cost grows with size: CPU seconds and peak memory of cphloc alone, and the exponent that fits them."""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .boxes import _ours as suppression
from .measure import cpu_seconds
from .metrics import _froc

SETTLED = 11.0
"""Seconds after which lines of a zoo are kept, see `cphloc.zoo.summaries`."""
MOST = """
print(int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 1024, file=sys.stderr)
"""
"""The peak of this process; what getrusage reports starts at the memory of the process that started it."""
STREAM = (
    """
import sys, torch
sys.path.insert(0, "tests")
from benchmarks.growth import stream
stream(int(sys.argv[1]))
"""
    + MOST
)
CHECK = (
    """
import sys
from cphloc.cli import main
assert main(["check", sys.argv[1]]) == 0
"""
    + MOST
)
LARGE = """
task: segmentation
dims: 3
data: {type: phantom, size: [32, 32, 32], patch: [32, 32, 32]}
model:
  backbone: {type: conv_encoder, widths: [64, 128, 256, 512, 1536]}
  heads: {mask: {type: unet, classes: {1: mass}}}
train: {steps: 10, batch: 1, optimizer: {type: SGD, lr: 1e-2}}
"""


def measured(full: bool) -> dict[str, Any]:
    """Rows of the page: what was made larger, how large, what it cost."""
    more = 4 if full else 1
    cards = [100, 1_000, 10_000]
    cases, peaks = _after_training([50, 200, 800 * more])
    return {
        "seconds": [
            _grown("prediction, slices of 96 x 96 (network free)", [64, 256, 1024 * more], _slices),
            _grown("NMS, boxes", [4_000, 16_000, 64_000 * more], lambda n: suppression(n, 3)),
            _grown("FROC, scans", [250, 1_000, 4_000 * more], _froc),
            _grown("cphloc list, cards and entries", cards, _listing),
            _grown("cphloc list zoo, entries", cards, lambda n: _listing(n, "zoo")),
            _grown("voxels: prediction of a cube by a small 3-D U-Net", [48**3, 64**3, 96**3], _voxels),
            _grown("classes: prediction of a cube of 48 by the same", [2, 8, 32], _classes),
            *cases,
            _grown("recipe, lines (heads)", [2, 8, 32], _recipe),
        ],
        "peak_mb": [
            peaks,
            {
                "what": "prediction of float32 slices of 512 x 512, 3 classes, windows of 48 x 64 x 64",
                "sizes": [64, 512, 2000],
                "values": [_peak(STREAM, str(n)) for n in (64, 512, 2000)],
            },
            {"what": "cphloc check of a recipe of 200 M parameters", "sizes": [1], "values": [_check_peak()]},
        ],
    }


def stream(slices: int) -> None:
    """Predict a volume that is made as it is asked for, with a network that costs nothing."""
    import torch
    from torch import nn

    from cphloc.inference.windows import infer
    from cphloc.modeling.model import Model
    from cphloc.ops.targets import Prediction
    from cphloc.structures.levels import Level

    class Same(nn.Module):
        levels = (Level(1, (1, 1, 1)),)

        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Parameter(torch.ones(1))

        def forward(self, x: Any) -> Any:
            return (x * self.one,)

    class Three(nn.Module):
        def forward(self, pyramid: Any) -> Any:
            return pyramid[0]

        def decode(self, outputs: Any) -> Prediction:
            return Prediction(mask_probabilities=torch.cat([outputs, outputs, outputs], 1).softmax(1))

    class Made:
        shape = (1, 1, slices, 512, 512)

        def __getitem__(self, key: Any) -> Any:
            first, stop, _ = key[2].indices(slices)
            return torch.full((1, 1, stop - first, 512, 512), 0.5)

    model = Model(Same(), None, {"mask": Three()}).eval()
    infer(model, Made(), (48, 64, 64), 0.25, on_mask_rows=lambda *_: None)


def _grown(what: str, sizes: Sequence[int], prepare: Callable[[int], Callable[[], Any]]) -> dict[str, Any]:
    seconds = []
    for n in sizes:
        job = prepare(n)
        job()
        taken = []
        for _ in range(3):
            start = cpu_seconds()
            job()
            taken.append(cpu_seconds() - start)
        seconds.append(statistics.median(taken))
    return {"what": what, "sizes": list(sizes), "values": seconds, "exponent": exponent(sizes, seconds)}


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Slope of the logarithm of the cost over that of the size, fitted to all sizes: 1 is linear.

    >>> round(exponent([10, 100], [1, 100]), 2)
    2.0
    """
    return statistics.linear_regression([math.log(n) for n in sizes], [math.log(c) for c in costs]).slope


def _slices(slices: int) -> Callable[[], Any]:
    import torch

    from .blend import sliding_window

    image = torch.zeros(1, 1, slices, 96, 96)
    return lambda: sliding_window(lambda w: w, image, (48, 48, 48), 0.25)


def _after_training(sizes: Sequence[int]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows of `tests/benchmarks/cases.py` for numbers of test cases: seconds by command, and peak memory."""
    program = str(Path(__file__).with_name("cases.py"))
    found = []
    for n in sizes:
        done = subprocess.run([sys.executable, program, str(n)], capture_output=True, text=True, check=False)
        if done.returncode:
            msg = f"{program} {n}: {done.stderr.splitlines()[-1:]}"
            raise RuntimeError(msg)
        found.append(json.loads(done.stdout.splitlines()[-1]))
    rows = []
    for name in ("evaluate", "publish", "compare"):
        seconds = [max(one[name], 0.01) for one in found]  # the clock of processes has steps of 10 ms
        row = {"what": f"cphloc {name}, test cases", "sizes": list(sizes), "values": seconds}
        rows.append(row | {"exponent": exponent(sizes, seconds)})
    peak = {"what": "evaluate, publish and compare, test cases", "sizes": list(sizes)}
    return rows, peak | {"values": [one["peak_mb"] for one in found]}


def _voxels(count: int) -> Callable[[], Any]:
    return _predicted(round(count ** (1 / 3)), 2)


def _classes(count: int) -> Callable[[], Any]:
    return _predicted(48, count)


def _predicted(side: int, classes: int) -> Callable[[], Any]:
    """Prediction of a cube in windows of 32 by a U-Net of two levels."""
    import torch

    from cphloc.components.backbone.conv_encoder import ConvEncoder
    from cphloc.components.head.unet import UNet
    from cphloc.inference.windows import infer
    from cphloc.modeling.model import Model

    torch.manual_seed(0)
    backbone = ConvEncoder(1, 3, (4, 8))
    names = [f"organ {n}" for n in range(1, classes)]
    model = Model(backbone, None, {"mask": UNet(backbone.levels, names)}).eval()
    image = torch.randn(1, 1, side, side, side)
    return lambda: infer(model, image, (32, 32, 32), 0.25, on_mask_rows=lambda *_: None)


def _listing(count: int, what: str = "") -> Callable[[], Any]:
    """So many cards of losses, and so many entries in a zoo with its index, which were there before."""
    import os

    folder = tempfile.TemporaryDirectory()
    cards, zoo = Path(folder.name, "cards", "loss"), Path(folder.name, "zoo")
    cards.mkdir(parents=True)
    zoo.mkdir()
    shipped = json.loads(Path("zoo/zoo.json").read_text(encoding="utf-8"))
    row = shipped["entries"][0]
    for n in range(count):
        Path(cards, f"loss{n}.yaml").write_text(
            f"import: package.module:Class\nsummary: Loss number {n}\ntakes: mask\n"
        )
        Path(zoo, f"entry{n}", row["version"]).mkdir(parents=True)
    rows = [row | {"name": f"entry{n}"} for n in range(count)]
    Path(zoo, "zoo.json").write_text(json.dumps(shipped | {"entries": rows}))
    if what:
        time.sleep(SETTLED)
    environment = (
        os.environ
        | {"CPHLOC_CACHE": f"{folder.name}/cache"}
        | {"CPHLOC_REGISTRY": str(cards.parent), "CPHLOC_ZOO": str(zoo)}
    )

    def job() -> None:
        assert folder.name
        command = [sys.executable, "-m", "cphloc.cli", "list", *filter(None, [what])]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.count("\n") > count * (1 if what else 2), done.stdout[-200:]

    return job


def _recipe(heads: int) -> Callable[[], Any]:
    from cphloc.recipe.recipe import load

    mask = {"type": "unet", "classes": {1: "anterior", 2: "posterior"}}
    source = {
        "task": "segmentation",
        "dims": 3,
        "data": {"type": "hippocampus", "patch": [32, 32, 32]},
        "model": {
            "backbone": {"type": "conv_encoder", "widths": [8, 16]},
            "heads": {f"mask{n}": dict(mask) for n in range(heads)},
        },
    }
    return lambda: load(source)


def _peak(code: str, argument: str) -> float:
    done = subprocess.run([sys.executable, "-c", code, argument], capture_output=True, text=True, check=True)
    return float(done.stderr.split()[-1])


def _check_peak() -> float:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "large.yaml")
        path.write_text(LARGE, encoding="utf-8")
        return _peak(CHECK, str(path))


def plot(found: dict[str, Any], path: Path) -> None:
    """Draw every cost over its size, both relative to the smallest, with the line along which it would be linear."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "growth"  # else every run has other ids
    figure, axes = pyplot.subplots(figsize=(9, 5), layout="constrained")
    for row in found["seconds"]:
        sizes, costs = ([value / row[key][0] for value in row[key]] for key in ("sizes", "values"))
        axes.plot(sizes, costs, marker="o", label=f"{row['what']}: {row['exponent']:.2f}")
    most = max(row["sizes"][-1] / row["sizes"][0] for row in found["seconds"])
    axes.plot([1, most], [1, most], color="grey", linestyle="dashed", label="linear: 1")
    axes.set(xscale="log", yscale="log", xlabel="size, times the smallest", ylabel="CPU seconds, times the least")
    figure.legend(title="what grows: exponent", loc="outside right upper", fontsize="small")
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
