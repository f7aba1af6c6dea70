"""Write ``QUALITY.md`` from the finished jobs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from cphloc.evaluation.comparison import paired_differences
from cphloc.evaluation.scores import Scores
from cphloc.training.facts import processor
from cphloc.training.settings import native_precision

from . import job
from .tasks import TASKS, Task

_PACKAGES = ("torch", "nnunetv2", "segmentation-models-pytorch", "torchvision", "timm")

_HEAD = """# Quality beside other systems

Made by `make quality`. Every system learns from the training split of a data set and is measured on cases of its
validation split, by the same code, on predictions on the grid of the image. The test split is not used.

- Each job is one process on one thread. A budget of minutes is CPU time of the training, converted to steps by the
  time that a step took at equal steps; `CPU min` is what the training took, with its start, but without nnU-Net's
  preparation.
- cphloc's recipe is the one that `cphloc plan` writes for the number of steps, unchanged; `cphloc pretrained` is that
  of `--preset pretrained`, whose ImageNet encoder smp and torchvision start from too. The others have their own
  defaults; their schedules end with the budget. The last weights are used, and no option of a prediction is chosen.
- Budgets are small beside the systems' own schedules (nnU-Net's has 250,000 steps): a table shows what a system reaches
  within its budget, not where it ends.
- cphloc computes in bfloat16 where the processor can (`precision: auto`), the others in float32, their default on a
  CPU.
- The last column is the first row minus the system on the same cases: mean, 95 % interval by patient, and p of a
  sign-flip test where the metric is a mean over cases.

{packages}; {processor}.
"""


def write(work: Path, path: Path) -> None:
    """Write the page of every job below ``work`` that is complete."""
    versions = ", ".join(f"{name} {version}" for name in _PACKAGES if (version := _version(name)))
    text = _HEAD.format(packages=versions, processor=_processor()) + "".join(
        _section(task, work) for task in TASKS.values()
    )
    path.write_text(text, encoding="utf-8")


def _version(package: str) -> str | None:
    """Version of a package; ``None`` where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    """Name of the processor, and whether it computes in bfloat16."""
    native = "" if native_precision() == "bf16-mixed" else "no "
    return f"{processor()}, {native}bfloat16"


def _section(task: Task, work: Path) -> str:
    blocks = [text for budget in ("steps", "minutes") for text in _tables(task, work, budget)]
    remarks = [f"\n{remark}\n" for remark in task.remarks] if blocks else []
    return f"\n## {task.data}\n" + ("".join([*blocks, *remarks]) or "\nNot measured yet.\n")


def _tables(task: Task, work: Path, budget: str) -> Iterator[str]:
    """Yield a table for every size of a budget that was run."""
    folders = sorted((work / task.data).glob(f"*/{budget}-*/{job.FACTS}"))
    for size in sorted({path.parent.name for path in folders}):
        jobs = {}
        for path in folders:
            if path.parent.name == size:
                facts = json.loads(path.read_text(encoding="utf-8"))
                jobs[facts["system"]] = facts, job.scores(task.data, path.parent)
        number = size.split("-", 1)[1]
        title = f"{number} steps" if budget == "steps" else f"{number} CPU minutes of training"
        cases = min(len(scores.rows) for _, scores in jobs.values())
        yield f"\n### {title}, {cases} validation cases\n\n" + "\n".join(_rows(task, jobs)) + "\n"


def _rows(task: Task, jobs: dict[str, tuple[dict[str, Any], Scores]]) -> Iterator[str]:
    yield f"| system | parameters (M) | batch | steps | CPU min | {task.metric} (95 % interval) | difference |"
    yield "|---|---|---|---|---|---|---|"
    first = next(system for system in task.systems if system in jobs)
    ours = jobs[first]
    for system in task.systems:
        if system in jobs:
            facts, scores = jobs[system]
            found = scores.intervals()[task.metric]
            gap = "" if system == first else _gap(task.metric, ours[1], scores)
            cells = (
                system,
                f"{facts['parameters'] / 1e6:.1f}",
                str(facts["batch"]),
                str(facts["steps"]),
                f"{facts['cpu_seconds'] / 60:.1f}",
                f"{found.value:.3f} ({found.low:.3f}-{found.high:.3f})",
                gap,
            )
            yield f"| {' | '.join(cells)} |"


def _gap(metric: str, ours: Scores, others: Scores) -> str:
    found = paired_differences(ours, others)[metric]
    p = "" if found.p_value != found.p_value else f", p {found.p_value:.3g}"
    return f"{found.value:+.3f} ({found.low:+.3f} to {found.high:+.3f}{p})"
