"""Prediction of many cases over a cluster: each worker loads the model once and predicts one case after another."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cphloc.distributed.cluster import Engine, over_jobs
from cphloc.inference.batch import Case, predict_cases

if TYPE_CHECKING:
    from cphloc.inference.ensemble import Ensemble
    from cphloc.inference.localizer import Localizer


Load = Callable[..., "Localizer | Ensemble"]


@dataclass(frozen=True)
class Job:
    """One case, and how it is predicted; arguments as those of `predict_cases`, the model by name and backend."""

    names: tuple[str, ...]
    backend: str
    case: Case
    out: str
    spacing_mm: Sequence[float] | None
    redo: bool
    options: Mapping[str, Any]


def predict_over(jobs: Sequence[Job], engine: Engine, load: Load) -> Iterator[dict[str, Any]]:
    """Predict the case of every job on ``engine``; yields `predict_cases`' rows in the order of the jobs.

    Args:
        jobs: the cases, each with the model and the options.
        engine: what runs them.
        load: opens the model by its names, such as `cphloc.load`; a function that workers can import.

    Every worker must see the same files. A case whose results are there already is not predicted again, so a call that
    was interrupted goes on where it stopped.

    Raises:
        MissingExtraError: Ray is not installed.
        InputError: no such entry, or options that do not suit it.
    """
    rows = dict(over_jobs(functools.partial(_predict, load), jobs, engine))
    yield from (rows[number] for number in range(len(jobs)))


def _predict(load: Load, job: Job) -> dict[str, Any]:
    model = _model(load, job.names, job.backend, Path.cwd())
    (row,) = predict_cases(model, [job.case], job.out, job.spacing_mm, job.redo, **job.options)
    return row


@functools.lru_cache(maxsize=1)
def _model(load: Load, names: tuple[str, ...], backend: str, folder: Path) -> Localizer | Ensemble:
    """The model that names mean in a working folder."""
    return load(list(names) if len(names) > 1 else names[0], backend=backend)
