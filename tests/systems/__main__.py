"""``make systems``: train every system of ``recipes/systems`` with three seeds, and with shuffled annotations.

Each job is a process of its own on one thread; finished jobs are kept, so that the work can be stopped and goes on.
One system follows the other, those that should take least time first, so that early rows are complete.
Writes ``docs/generate/systems.json``, from which ``make docs`` writes the table of the systems.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import sys
import time
import warnings
from pathlib import Path

from .job import FACTS, run
from .results import above, read, write
from .systems import SEEDS, SHUFFLES, SYSTEMS

ROOT = Path(__file__).parents[2]
LOG = "log.txt"


def main(argv: list[str] | None = None) -> int:
    """Run the jobs that are missing, then write the results; returns 1 where a job failed."""
    parser = argparse.ArgumentParser("python -m tests.systems", description=__doc__)
    parser.add_argument("systems", nargs="*", help="names of recipes; by default all")
    parser.add_argument(
        "--arms", nargs="+", choices=(*SEEDS, *SHUFFLES), default=(*SEEDS, *SHUFFLES), help="default: all"
    )
    parser.add_argument("--work", type=Path, default=ROOT / ".systems", help="folder for jobs; default .systems")
    parser.add_argument("--only-write", action="store_true", help="write the results of the finished jobs")
    options = parser.parse_args(argv)
    if unknown := set(options.systems) - set(SYSTEMS):
        parser.error(f"no system {', '.join(sorted(unknown))}; choose from {', '.join(SYSTEMS)}")
    failed = 0
    if not options.only_write:
        for name in options.systems or sorted(SYSTEMS, key=lambda name: SYSTEMS[name].minutes):
            for arm in options.arms:
                if _wanted(options.work / name, arm):
                    failed += not _done(name, arm, options.work.absolute())
    write(options.work, ROOT / "docs" / "generate" / "systems.json")
    return 1 if failed else 0


def _wanted(folder: Path, arm: str) -> bool:
    """Return whether a job is needed: another order of shuffled annotations only where all before were above."""
    before = SHUFFLES[: SHUFFLES.index(arm)] if arm in SHUFFLES else ()
    return all((facts := read(folder / earlier)) is not None and above(facts) for earlier in before)


def _done(name: str, arm: str, work: Path) -> bool:
    """Run one job unless it is complete; returns whether it is."""
    folder = work / name / arm
    if (folder / FACTS).is_file():
        return True
    shutil.rmtree(folder, ignore_errors=True)  # a job that was cut off begins anew
    folder.mkdir(parents=True)
    print(f"{time.strftime('%H:%M')} {name}: {arm}", flush=True)
    process = multiprocessing.get_context("fork").Process(target=_job, args=(name, arm, folder))
    process.start()
    process.join()
    if process.exitcode:
        print(f"  failed; see {folder / LOG}", flush=True)
    return process.exitcode == 0


def _job(name: str, arm: str, folder: Path) -> None:
    """Do a job, with all that it prints in its folder. A fork has what takes seconds to import."""
    with (folder / LOG).open("w", encoding="utf-8") as log:
        os.dup2(log.fileno(), sys.stdout.fileno())
        os.dup2(log.fileno(), sys.stderr.fileno())
        warnings.simplefilter("ignore")
        os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
        run(name, arm, folder)


if __name__ == "__main__":
    sys.exit(main())
