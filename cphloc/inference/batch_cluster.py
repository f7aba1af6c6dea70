"""Predict many cases in a child process or on a cluster; each worker loads the model once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cphloc.distributed.cluster import Engine, over_jobs
from cphloc.inference.batch import Case, failed_row, predict_cases
from cphloc.inference.result_files import record_path, remove_record

if TYPE_CHECKING:
    from cphloc.inference.ensemble import Ensemble
    from cphloc.inference.localizer import Localizer


Load = Callable[..., "Localizer | Ensemble"]

_PRELOAD = ("cphloc.inference.localizer",)
"""Modules that take long to import and that every worker needs."""


@dataclass(frozen=True)
class Job:
    """One case to predict, with the arguments of `predict_cases`; the model is given by names and backend.

    Args:
        names: names of the model, several for an ensemble.
        backend: runtime that computes it.
        case: the case.
        out: folder for the results.
        spacing_mm: voxel size in array order, for images that state none.
        redo: predict the case even if its results exist.
        options: further arguments of `Localizer.predict`.
    """

    names: tuple[str, ...]
    backend: str
    case: Case
    out: str
    spacing_mm: Sequence[float] | None
    redo: bool
    options: Mapping[str, Any]


def predict_over(jobs: Sequence[Job], engine: Engine, load: Load) -> Iterator[dict[str, Any]]:
    """Predict the case of every job; yields the rows of `predict_cases` in the order of the jobs.

    All workers must see the same files. Cases whose results exist are skipped, so calling this again continues after an
    interruption. A case that crashes its process, as a damaged image can crash a decoder, is a failed row.

    Args:
        jobs: cases to predict.
        engine: ``local`` or ``ray``.
        load: function that loads a model by its names, such as `cphloc.load`; workers must be able to import it.

    Raises:
        MissingExtraError: Ray is not installed.
        InputError: there is no such entry, or the options do not suit it.
    """
    early: dict[int, dict[str, Any]] = {}
    due = 0
    for number, row in over_jobs(functools.partial(_predict, load), jobs, engine, _lost, _PRELOAD):
        early[number] = row
        while due in early:
            yield early.pop(due)
            due += 1


def _predict(load: Load, job: Job) -> dict[str, Any]:
    """Predict one job and return its row."""
    model = _model(load, job.names, job.backend, Path.cwd())
    (row,) = predict_cases(model, [job.case], job.out, job.spacing_mm, job.redo, **job.options)
    return row


def _lost(job: Job, reason: str) -> dict[str, Any]:
    """Row of a job whose process ended before it gave one."""
    remove_record(record_path(job.out, job.case.name))
    cause = "memory ran out, or somebody ended it" if reason == "SIGKILL" else "a damaged image can cause this"
    what = f"{job.case.files[0]}: the process that predicted it ended with {reason} ({cause})"
    return failed_row(job.case, f"{what}; convert the image with another program, or leave it out")


@functools.lru_cache(maxsize=1)
def _model(load: Load, names: tuple[str, ...], backend: str, folder: Path) -> Localizer | Ensemble:
    """Load a model, or reuse the last one if the working ``folder``, in which names are resolved, is the same."""
    first, *others = names
    return load([first, *others] if others else first, backend=backend)
