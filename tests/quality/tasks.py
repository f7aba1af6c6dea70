"""The comparisons: data sets, and the systems that fit each of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Task:
    """A data set on whose training split every system learns, and on whose validation split it is measured.

    Args:
        data: type of the data set.
        metric: metric that decides, a name in `cphloc.evaluation.scores.Scores.values`.
        systems: names of `tests.quality.systems.SYSTEMS`; the first is compared with all others.
        steps: number of optimizer steps of the comparison at equal steps.
        minutes: CPU minutes of training of the comparison at equal time.
        arguments: arguments of the data set.
        only_complete: whether the others learn from the cases alone in which every class was annotated, because they
            cannot learn from the rest.
        remarks: what was found where cphloc is behind, one paragraph each, for the page.
    """

    data: str
    metric: str
    systems: tuple[str, ...]
    steps: int
    minutes: float
    arguments: Mapping[str, Any] = field(default_factory=dict)
    only_complete: bool = False
    remarks: tuple[str, ...] = ()


_ORGANS = {1: "brainstem", 2: "spinal_cord", 3: "parotid_right", 4: "parotid_left", 5: "mandible"}

_WIDTHS = ("cphloc width 24", "cphloc width 32")
_FLAT = ("cphloc pretrained", "cphloc")

TASKS = {
    task.data: task
    for task in (
        Task("hippocampus", "dice", ("cphloc", *_WIDTHS, "nnunet 3d_fullres", "nnunet 2d"), 600, 20),
        Task("openkbp", "dice", ("cphloc", "nnunet 3d_fullres"), 1000, 60, {"classes": _ORGANS}, only_complete=True),
        Task("brain_t1c", "dice", (*_FLAT, "nnunet 2d", "smp unet"), 600, 20),
        Task("bccd", "ap50", (*_FLAT, "torchvision retinanet", "torchvision fasterrcnn"), 300, 20),
    )
}
