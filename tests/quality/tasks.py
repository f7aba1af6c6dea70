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

_HIPPOCAMPUS = """nnU-Net's rate of 0.01 with momentum 0.99 has hardly left the start after 67 steps in 3-D and 81 in
2-D: it predicts background everywhere, and a fault in our use of it would look the same at this budget. A step took
8.9 CPU seconds in 3-D (float32, 32 channels) and 7.4 in 2-D (197 slices), that of cphloc 1.1 with 16 channels, 2.3
with 24 and 3.3 with 32; the default of a plan was 24 and is now 16. Longer budgets, at which more channels may win,
were not measured. The rows of cphloc were measured before a plan gave the mask a `prior`, with which 30 steps reach
.76."""
_OPENKBP = """Neither system has learned within these budgets. nnU-Net's plan (patch 80 x 112 x 128, batch 3) takes 80
CPU seconds a step, cphloc's 1.9. After 318 steps of cphloc the mandible has begun (Dice .37), the other organs have
not. The cause: all classes began equally probable, and lowering the probability of the organs took hundreds of steps.
A plan gives the mask a `prior` now; these rows were measured before it. The recipe `unet3d-ct`, which has one, reaches
.73 after 2,400 steps (33 validation cases)."""
_BRAIN = """An earlier plan of cphloc reached .028 in the 20 minutes. The cause was looked for with 900 slices at
64 x 64 pixels, 200 steps, one seed, Dice on 90 validation slices. As planned then: .06; the head scored all three
classes as likely as the background, and most steps went into unlearning that. With the background's share as the
initial probability (`prior`): .16, and .36 for the outline whatever its class. With one class in the mask and the class
from the label head: .10. With both: .36. Four times the rate in the decoder: .00 alone, .39 with one class, .36 with
all three. `cphloc plan` now merges the classes, and writes a prior, and the rate beside a pre-trained encoder. The
prior of these rows made the weights of the scores small as well; it leaves them random now (hippocampus, 30 steps: .76
instead of .16, and .59 without a prior). nnU-Net's 2-D configuration was not run."""
_BCCD = """A step took 17.4 CPU seconds in torchvision's Faster R-CNN, 12 in its RetinaNet and 1.4 in cphloc, all with
the same encoder; torchvision's trunks have 256 channels and batches of 4, those of the plan fewer and batches of 2. The
10 minutes of cphloc were fewer than 5, because its steps were counted by the time of 20, start included."""

TASKS = {
    task.data: task
    for task in (
        Task(
            "hippocampus",
            "dice",
            ("cphloc", *_WIDTHS, "nnunet 3d_fullres", "nnunet 2d"),
            steps=600,
            minutes=20,
            remarks=(_HIPPOCAMPUS,),
        ),
        Task(
            "openkbp",
            "dice",
            ("cphloc", *_WIDTHS, "nnunet 3d_fullres"),
            steps=1000,
            minutes=60,
            arguments={"classes": _ORGANS},
            only_complete=True,
            remarks=(_OPENKBP,),
        ),
        Task("brain_t1c", "dice", (*_FLAT, "nnunet 2d", "smp unet"), steps=600, minutes=20, remarks=(_BRAIN,)),
        Task(
            "bccd",
            "ap50",
            (*_FLAT, "torchvision retinanet", "torchvision fasterrcnn"),
            steps=300,
            minutes=20,
            remarks=(_BCCD,),
        ),
    )
}
