"""Train one system on one task within one budget, and predict the validation cases; run in a process of its own."""

from __future__ import annotations

import argparse
import json
import time
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

_SHORT, _LONG = 3, 9
"""Steps of the two trainings from which the CPU time of a step is measured."""


def run(task_name: str, system_name: str, steps: int | None, minutes: float | None, seed: int, folder: Path) -> None:
    """Do a job and write its predictions and facts to a folder.

    Args:
        task_name: name of a task.
        system_name: name of a system.
        steps: number of steps; ``None`` for as many as fit into ``minutes``.
        minutes: CPU minutes of training, used where ``steps`` is ``None``.
        seed: random seed.
        folder: folder of the job; data that a system prepares are kept in its parent.
    """
    torch.set_num_threads(1)
    cases, system = Cases(TASKS[task_name]), make(system_name)
    work = folder.parent / "work"
    work.mkdir(parents=True, exist_ok=True)
    system.prepare(cases, work)
    if steps is None:
        steps = max(1, round(60 * (minutes or 0) / _seconds_per_step(system, cases, seed, work)))
    started = time.process_time()
    predict, parameters = system.train(cases, steps, seed, work)
    seconds = time.process_time() - started
    (folder / "predictions").mkdir(parents=True, exist_ok=True)
    for case, volume, _ in cases.read("val"):
        _save(folder / "predictions" / f"{case.id}.npz", predict(volume))
    facts = {"system": system_name, "steps": steps, "cpu_seconds": round(seconds, 1), "parameters": parameters}
    (folder / FACTS).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def _seconds_per_step(system, cases: Cases, seed: int, work: Path) -> float:
    """CPU seconds of a step, without what a training does once."""
    spent = []
    for steps in (_SHORT, _LONG):
        started = time.process_time()
        system.train(cases, steps, seed, work)
        spent.append(time.process_time() - started)
    return max(spent[1] - spent[0], 0.01) / (_LONG - _SHORT)


def _save(path: Path, found: CasePrediction) -> None:
    parts = {name: getattr(found, name) for name in ("mask", "boxes", "scores", "box_classes")}
    np.savez_compressed(path, **{name: value for name, value in parts.items() if value is not None})


def scores(task_name: str, folder: Path) -> Scores:
    """Score the stored predictions of a job."""

    def stored(case, volume) -> CasePrediction:
        """Read the prediction of a case."""
        with np.load(folder / "predictions" / f"{case.id}.npz") as arrays:
            return CasePrediction(**dict(arrays))

    return Cases(TASKS[task_name]).scored(stored)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task")
    parser.add_argument("system")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    run(given.task, given.system, given.steps, given.minutes, given.seed, given.out.absolute())
