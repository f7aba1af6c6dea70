"""Write ``IMPORT.md`` from the finished rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_HEAD = """# Imported models beside nnU-Net

Made by `make import-proof`. Small models (8 to 64 channels) are trained by nnU-Net's own planner, trainer and
augmentation on ten cases of hippocampus that ship with cphloc, 50 steps a fold (`2d`: 200), which makes weights that
are not random, not good models. `cphloc import nnunet --prove` imports each, and both programs then predict test cases,
on one thread: `nnUNetv2_predict` and `cphloc predict`.

- `logits` is the largest difference of the networks' outputs for the same window, beside their largest magnitude.
- `masks (single)` are voxels that differ when nnU-Net sums logits in single precision, on a synthetic image.
- `masks (command)` are voxels of test cases that differ from those of `nnUNetv2_predict` as it is: it sums
  logits in half precision, which decides where two classes score nearly the same. In brackets: voxels that its half
  precision changes on the synthetic image, against its own single precision.
- `classes` are those of the predicted masks of the test cases. Where it is 0 alone, a model of so few steps finds
  nothing in them, so that its equality rests on `logits`.
- `geometry` is the largest difference of origin, spacing and direction of the written masks.
- Seconds are those of the synthetic image, read and predicted, without the start; the machine was busy with other work.
- Of `2d`, slices are predicted with kernels of 1 x k x k voxels. torch computes them up to twice as slowly as flat
  kernels with 8 to 16 channels, as here, and as quickly from 64 channels on.

| model | parameters | logits | masks (single) | masks (command) | classes | geometry | nnU-Net s | cphloc s | times |
|---|---|---|---|---|---|---|---|---|---|
"""


def write(rows: Path, names: Sequence[str], path: Path) -> None:
    """Write the page of every row that is finished."""
    found = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(rows.glob("*.json"))]
    found.sort(key=lambda row: names.index(row["row"]))
    path.write_text(_HEAD + "".join(map(_row, found)), encoding="utf-8")


def _row(facts: dict[str, Any]) -> str:
    proof, cases = facts["proof"], facts["cases"]
    there, here = proof["framework_seconds"], proof["seconds"]
    differing, voxels = (sum(case[key] for case in cases) for key in ("differing", "voxels"))
    commands = ["not run yet", "", ""]
    if cases:
        found = sorted({number for case in cases for number in case["classes"]})
        commands = [
            f"{differing} of {voxels:,} in {len(cases)} cases ({proof['rounding']} of {proof['voxels']:,})",
            ", ".join(map(str, found)),
            f"{max(case['moved'] for case in cases):.0e}",
        ]
    cells = (
        f"{facts['row']} ({facts['architecture']})",
        f"{facts['parameters']:,}",
        f"{proof['outputs']:.1e} of {proof['scale']:.1f}",
        f"{proof['differing']} of {proof['voxels']:,}",
        *commands,
        f"{there:.1f}",
        f"{here:.1f}",
        f"{there / here:.1f}",
    )
    return f"| {' | '.join(cells)} |\n"
