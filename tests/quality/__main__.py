"""``make quality``: cphloc's planned recipes beside other systems, at equal steps and at equal CPU time.

Every system learns from the training split of a data set and is measured on its validation split, by the same code.
Each job is a process of its own on one thread; finished jobs are kept, so that the comparison can be stopped and goes
on. Writes ``tests/benchmarks/QUALITY.md``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from . import page
from .job import FACTS
from .tasks import TASKS, Task

HERE = Path(__file__).parent
BUDGETS = ("steps", "minutes")
WORK = HERE.parents[1] / ".quality"


def main(argv: list[str] | None = None) -> int:
    """Run what is missing, then write the page."""
    options = _options(argv)
    failed = 0
    for name in options.tasks:
        for system in TASKS[name].systems:
            for budget in options.budgets:
                if options.page_only or not _wanted(options, system):
                    continue
                failed += not _job(TASKS[name], system, budget, options)
    page.write(options.work, HERE.parent / "benchmarks" / "QUALITY.md")
    return 1 if failed else 0


def _wanted(options: argparse.Namespace, system: str) -> bool:
    return not options.systems or system in options.systems


def _job(task: Task, system: str, budget: str, options: argparse.Namespace) -> bool:
    """Run one job unless it is complete; returns whether it is."""
    size = getattr(options, budget) or getattr(task, budget)
    folder = options.work / task.data / system.replace(" ", "-") / f"{budget}-{size:g}"
    if (folder / FACTS).is_file():
        return True
    folder.mkdir(parents=True, exist_ok=True)
    print(f"{time.strftime('%H:%M')} {task.data}: {system}, {size:g} {budget}", flush=True)
    command = [sys.executable, "-W", "ignore", "-m", "tests.quality.job", task.data, system]
    cases = [] if options.cases is None else ["--cases", str(options.cases)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NO_ALBUMENTATIONS_UPDATE": "1"}
    with (folder / "log.txt").open("w", encoding="utf-8") as log:
        done = subprocess.run(
            [*command, f"--{budget}", f"{size:g}", *cases, "--out", str(folder)],
            stdout=log, stderr=subprocess.STDOUT, env=environment, cwd=HERE.parents[1], check=False,
        )  # fmt: skip
    if done.returncode:
        print(f"  failed; see {folder / 'log.txt'}", flush=True)
    return done.returncode == 0


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.quality", description=__doc__)
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS), help="default: all")
    parser.add_argument("--systems", nargs="+", default=[], help="only these systems")
    parser.add_argument("--steps", type=int, help="steps of the comparison at equal steps; default: by task")
    parser.add_argument("--minutes", type=float, help="CPU minutes of the comparison at equal time; default: by task")
    parser.add_argument("--budgets", nargs="+", choices=BUDGETS, default=BUDGETS, help="default: both")
    parser.add_argument("--cases", type=int, help="most validation cases to predict, evenly spread; default: all")
    parser.add_argument("--work", type=Path, default=WORK, help="folder for jobs; default .quality")
    parser.add_argument("--page-only", action="store_true", help="write the page of the finished jobs")
    options = parser.parse_args(argv)
    options.work = options.work.absolute()
    return options


if __name__ == "__main__":
    sys.exit(main())
