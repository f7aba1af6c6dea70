"""Train one system on one task within one budget, and predict the validation cases; run in a process of its own."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import numpy as np
import torch

from cphloc.evaluation.prediction import CasePrediction
from cphloc.evaluation.scores import Scores

from .data import Cases
from .systems import make
from .tasks import TASKS

FACTS = "facts.json"
"""File whose presence marks a job as complete."""


def run(task_name: str, system_name: str, steps: int | None, minutes: float | None, folder: Path, **options) -> None:
    """Do a job and write its predictions and facts to a folder.

    Args:
        task_name: name of a task.
        system_name: name of a system.
        steps: number of steps; ``None`` for as many as fit into ``minutes``.
        minutes: CPU minutes of training, used where ``steps`` is ``None``; converted by the time of a step in a job of
            stated steps.
        folder: folder of the job; data that a system prepares are kept in its parent.
        options: ``seed``, and ``cases``, the most validation cases to predict.
    """
    torch.set_num_threads(1)
    cases, system, seed = Cases(TASKS[task_name]), make(system_name), options.get("seed", 0)
    work = folder.parent / "work"
    work.mkdir(parents=True, exist_ok=True)
    system.prepare(cases, work)
    if steps is None:
        steps = max(1, round(60 * (minutes or 0) / _seconds_per_step(folder.parent)))
    started = cpu_seconds()
    trained = system.train(cases, steps, seed, work)
    seconds = cpu_seconds() - started
    (folder / "predictions").mkdir(parents=True, exist_ok=True)
    for case, volume, _ in cases.to_score(options.get("cases")):
        _save(folder / "predictions" / f"{case.id}.npz", trained.predict(volume))
    facts = {"system": system_name, "steps": steps, "batch": trained.batch, "parameters": trained.parameters}
    facts |= {"cpu_seconds": round(seconds, 1), "all_cpu_seconds": round(cpu_seconds(), 1)}
    (folder / FACTS).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def cpu_seconds() -> float:
    """CPU time of this process, its threads, and its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _seconds_per_step(jobs: Path) -> float:
    """CPU seconds of a step of a system, its start included, from its job with the most steps.

    Raises:
        FileNotFoundError: it has no such job.
    """
    done = [json.loads(path.read_text(encoding="utf-8")) for path in jobs.glob(f"steps-*/{FACTS}")]
    if not done:
        msg = f"{jobs}: a budget of minutes needs the time of a step; run the budget of steps first"
        raise FileNotFoundError(msg)
    longest = max(done, key=lambda facts: facts["steps"])
    return longest["cpu_seconds"] / longest["steps"]


def _save(path: Path, found: CasePrediction) -> None:
    parts = {name: getattr(found, name) for name in ("mask", "boxes", "scores", "box_classes")}
    np.savez_compressed(path, **{name: value for name, value in parts.items() if value is not None})


def scores(task_name: str, folder: Path) -> Scores:
    """Score the stored predictions of a job."""
    predicted = {}
    for path in (folder / "predictions").glob("*.npz"):
        with np.load(path) as arrays:
            predicted[path.stem] = CasePrediction(**dict(arrays))
    return Cases(TASKS[task_name]).scored(predicted)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task")
    parser.add_argument("system")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", type=int)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    options = {"seed": given.seed, "cases": given.cases}
    run(given.task, given.system, given.steps, given.minutes, given.out.absolute(), **options)
