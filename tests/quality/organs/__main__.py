"""``make organs``: organs found at low resolution, then outlined at full resolution, against one network alone.

Joins ``retina3d-ct`` and ``unet3d-ct`` to a pipeline, and measures it and ``unet3d-ct`` by itself on the same cases:
quality, time and memory. What is done is kept, so that the work can be stopped and goes on. Writes
``tests/benchmarks/PIPELINE.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
NETWORK = "unet3d-ct@0.9.2"
METRICS = ("dice", "hd95_mm", "nsd", "volume_error")
TITLE = "# A pipeline against one network: organs on head-and-neck CT"


def main(argv: list[str] | None = None) -> int:
    """Do what is missing, and write the page."""
    parser = argparse.ArgumentParser("python -m tests.quality.organs", description=__doc__)
    parser.add_argument(
        "--work", type=Path, default=ROOT / ".quality" / "organs", help="folder; default .quality/organs"
    )
    parser.add_argument("--split", choices=("val", "test"), default="val", help="cases that are measured; default val")
    options = parser.parse_args(argv)
    work = options.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    pipeline = _kept(work / "pipeline.json", lambda: _cphloc(work, "train", str(HERE / "pipeline.yaml")))
    systems = {"one network": NETWORK, "pipeline": pipeline["folder"]}
    rows = {
        name: _kept(work / f"{options.split}-{name}.json", lambda source=source: _measured(work, source, options.split))
        for name, source in systems.items()
    }
    page = ROOT / "tests" / "benchmarks" / "PIPELINE.md"
    page.write_text(page_of(rows, options.split), encoding="utf-8")
    print(page.read_text(encoding="utf-8"))
    return 0


def page_of(rows: Mapping[str, Mapping[str, Any]], split: str) -> str:
    """Write the page: a row per system.

    Args:
        rows: by system, ``metrics`` with ``value``, ``low`` and ``high``, median ``seconds`` per case and ``peak_mb``;
            of a pipeline also ``stages`` and ``oracle``, see `cphloc.evaluation.stages.StageErrors.facts`.
        split: cases that were measured.
    """
    head = ["system", *METRICS, "s a case", "peak MB"]
    chosen = ", on which both entries were chosen" if split == "val" else ""
    tested = "Intervals are 95 % intervals by patient; differences between systems were not tested."
    lines = [TITLE, "", f"Cases: {split}{chosen}. {tested} Written by `make organs`.", ""]
    lines += [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for name, row in rows.items():
        lines.append(_row(name, row["metrics"], f"{row['seconds']:.1f}", f"{row['peak_mb']:.0f}"))
        if row.get("oracle"):
            lines.append(_row(f"{name}, last stage in the annotated region", row["oracle"]["metrics"], "-", "-"))
    for row in rows.values():
        lines += _stage_lines(row.get("stages") or {})
    return "\n".join(lines) + "\n"


def _row(name: str, metrics: Mapping[str, Any], *cells: str) -> str:
    return f"| {' | '.join([name, *(_interval(metrics.get(metric)) for metric in METRICS), *cells])} |"


def _stage_lines(stages: Mapping[str, Any]) -> Iterator[str]:
    """Yield the errors of each stage's region, as a table."""
    cropped = {name: stage for name, stage in stages.items() if stage["crop"]}
    if not cropped:
        return
    yield from ("", "| stage | objects inside its region | IoU with the annotated region | cases without a region |")
    yield f"|{' --- |' * 4}"
    for name, stage in cropped.items():
        cells = (_interval(stage["crop"].get(error)) for error in ("inside", "iou", "missed"))
        yield f"| {name} ({stage['entry']}) | {' | '.join(cells)} |"


def _interval(value: Mapping[str, float] | None) -> str:
    if value is None or value.get("value") is None:
        return "-"
    return f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"


def _kept(path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the facts in a file, which are made where it is missing."""
    if not path.is_file():
        print(f"{path.stem}", flush=True)
        path.write_text(json.dumps(make()), encoding="utf-8")
    return json.loads(path.read_text(encoding="utf-8"))


def _measured(work: Path, source: str, split: str) -> dict[str, Any]:
    """Evaluate a system in a process of its own, with its time per case and its largest memory."""
    out = ("--out", str(work / f"evaluation-{source}")) if "@" in source else ()  # a run keeps its own
    facts = _cphloc(work, "evaluate", source, "--split", split, *out)
    speed = facts["speed"]
    errors = {key: facts.get(key) for key in ("stages", "oracle")}
    speeds = {"seconds": speed["ms_per_case"] / 1000, "peak_mb": speed["peak_ram_mb"]}
    return {"metrics": facts["metrics"], **speeds, **errors}


def _cphloc(work: Path, *arguments: str) -> Any:
    """Run a command of cphloc on one thread and return its facts."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NO_ALBUMENTATIONS_UPDATE": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "ignore", "-m", "cphloc", *arguments, "--json"]
    done = subprocess.run(command, env=environment, cwd=work, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


if __name__ == "__main__":
    sys.exit(main())
