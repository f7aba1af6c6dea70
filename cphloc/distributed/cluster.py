"""Apply a function to many jobs, on this machine or on a Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, TypeVar, get_args

from cphloc.distributed.child import in_child
from cphloc.errors import CphlocError, InputError, did_you_mean, needs

Engine = Literal["local", "ray"]
"""``local`` runs the jobs in this process; ``ray`` distributes them over the machines of a Ray cluster."""

Job = TypeVar("Job")
Result = TypeVar("Result")


def over_jobs(
    function: Callable[[Job], Result],
    jobs: Sequence[Job],
    engine: Engine = "local",
    lost: Callable[[Job, str], Result] | None = None,
    preload: Sequence[str] = (),
) -> Iterator[tuple[int, Result]]:
    """Apply ``function`` to every job; yields ``(index of the job, result)`` as jobs finish, in any order.

    With ``ray`` the jobs run on the cluster named by ``RAY_ADDRESS``, or on one that is started on this machine for the
    call; all workers must see the same files, and each job takes one CPU. To continue after an interruption, call this
    again with the same jobs; ``function`` must then recognise results that it has already written.

    Args:
        function: takes one job; the function and the jobs must be picklable.
        jobs: the jobs.
        engine: ``local`` or ``ray``.
        lost: makes the result of a job whose process crashed, from the job and the reason. Local jobs then run in a
            child process, so that such a crash does not end this one.
        preload: modules that child processes share, to start sooner.

    Raises:
        InputError: there is no such engine.
        MissingExtraError: Ray is not installed.
        CphlocError: a job failed, or its process crashed and ``lost`` is not given; jobs that have not started yet are
            not run.

    >>> sorted(over_jobs(abs, [-1, 2]))
    [(0, 1), (1, 2)]
    """
    if engine not in get_args(Engine):
        msg = f"no engine '{engine}'; {did_you_mean(engine, get_args(Engine)) or 'local or ray'}"
        raise InputError(msg)
    if engine == "ray":
        yield from _over_ray(function, jobs, lost)
    elif lost is not None:
        yield from enumerate(in_child(function, jobs, lost, preload))
    else:
        yield from ((number, function(job)) for number, job in enumerate(jobs))


def _over_ray(
    function: Callable[[Job], Result], jobs: Sequence[Job], lost: Callable[[Job, str], Result] | None
) -> Iterator[tuple[int, Result]]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with needs("the engine 'ray'"):
        import ray
        import ray.exceptions
    started = not ray.is_initialized()
    if started:
        _start(ray)
    try:
        remote = ray.remote(max_retries=2)(_in_folder)
        waiting = {remote.remote(os.getcwd(), dict(_settings()), function, job): n for n, job in enumerate(jobs)}
        while waiting:
            (done,), _ = ray.wait(list(waiting), num_returns=1)
            number = waiting.pop(done)
            try:
                yield number, ray.get(done)
            except ray.exceptions.RayTaskError as error:
                raise _cause(error) from None
            except ray.exceptions.RayError as error:
                reason = str(error).splitlines()[0]
                if lost is None:
                    msg = f"Ray lost a job ({reason}); start again, finished jobs are kept"
                    raise CphlocError(msg) from error
                yield number, lost(jobs[number], reason)
    finally:
        if started:
            ray.shutdown()


def _start(ray: Any) -> None:
    """Join the cluster of ``RAY_ADDRESS``, or start one on this machine."""
    address = os.environ.get("RAY_ADDRESS")
    alone: dict[str, Any] = {} if address else {"include_dashboard": False}
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **alone)
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        msg = f"Ray did not start ({reason}); on a busy machine try again, or set RAY_ADDRESS to a running cluster"
        raise CphlocError(msg) from error


def _settings() -> Iterator[tuple[str, str]]:
    """Environment variables that workers need."""
    return ((k, v) for k, v in os.environ.items() if k.startswith(("CPHLOC_", "MLFLOW_", "OMP_")))


def _in_folder(folder: str, environment: dict[str, str], function: Callable[[Job], Result], job: Job) -> Result:
    """Run ``function`` in a worker, in the folder and with the environment of the calling process."""
    os.chdir(folder)
    os.environ.update(environment)
    return function(job)


def _cause(error: Exception) -> Exception:
    cause = getattr(error, "cause", None)
    if isinstance(cause, CphlocError):
        return cause
    last = str(error).strip().splitlines()[-1]
    return CphlocError(f"a job failed on the cluster: {last}; run it with --engine local to see why")
