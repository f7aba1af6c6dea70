"""Run jobs one after another in a child process, so that a crash of native code costs one job and not all of them."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from types import ModuleType
from typing import Any, Generic, TypeVar

from cphloc.errors import CphlocError

Job = TypeVar("Job")
Result = TypeVar("Result")

STOP_SECONDS = 5.0
"""Time that a child process has to finish after it was asked to stop; then it is killed."""


def in_child(
    function: Callable[[Job], Result],
    jobs: Sequence[Job],
    lost: Callable[[Job, str], Result],
    preload: Sequence[str] = (),
) -> Iterator[Result]:
    """Apply ``function`` to every job in one child process; yields the results in the order of the jobs.

    A child process that ends during a job (a segmentation fault, too little memory) is replaced by a new one.

    Args:
        function: takes one job; function, jobs and results must be picklable.
        jobs: the jobs.
        lost: makes the result of a job whose process ended, from the job and the reason, such as ``SIGSEGV``.
        preload: modules that are imported once for all child processes.

    Raises:
        Exception: whatever ``function`` raises.
    """
    child: _Child[Job, Result] | None = None
    try:
        for job in jobs:
            child = child or _Child(function, preload)
            try:
                yield child.run(job)
            except EOFError:
                reason, child = child.stop(), None
                yield lost(job, reason)
    finally:
        if child is not None:
            child.stop()


class _Child(Generic[Job, Result]):
    """A child process that applies one function to the jobs it is sent."""

    def __init__(self, function: Callable[[Job], Result], preload: Sequence[str]) -> None:
        context = _context(preload)
        self.connection, theirs = context.Pipe()
        settings = os.getcwd(), dict(os.environ), sys.path
        self.process = context.Process(target=_serve, args=(theirs, *settings, function), daemon=False)
        with _without_main():
            self.process.start()
        theirs.close()

    def run(self, job: Job) -> Result:
        """Return the result of a job; raises what the function raised, or `EOFError` if the process ended."""
        try:
            self.connection.send(job)
            good, answer = self.connection.recv()
        except (ConnectionError, EOFError):
            raise EOFError from None
        if not good:
            raise answer
        return answer

    def stop(self) -> str:
        """End the process and return why it ended, such as ``SIGSEGV``."""
        self.connection.close()
        self.process.join(STOP_SECONDS)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        return _reason(self.process.exitcode)


def _reason(code: int | None) -> str:
    """Name of the signal that ended a process, else its exit code.

    >>> _reason(-11), _reason(3)
    ('SIGSEGV', 'exit code 3')
    """
    if code is not None and code < 0:
        return signal.Signals(-code).name
    return f"exit code {code}"


def _context(preload: Sequence[str]) -> Any:
    """Start method of child processes: forked from a small server that has no threads, where the system has that."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    return context


@contextmanager
def _without_main() -> Iterator[None]:
    """Hide the script that is running, which a child process would otherwise import, and thereby run, again."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _serve(
    connection: Connection, folder: str, environment: Mapping[str, str], path: list[str], function: Callable
) -> None:
    """Answer jobs until the parent closes the connection; an interrupt from the keyboard ends the process quietly."""
    try:
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        sys.path[:] = path
        while True:
            connection.send(_answer(function, connection.recv()))
    except (EOFError, ConnectionError, KeyboardInterrupt):
        return


def _answer(function: Callable, job: Any) -> tuple[bool, Any]:
    """Return ``(True, result)``, or ``(False, exception)`` for an exception, which is replaced if it cannot be sent."""
    try:
        return True, function(job)
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            return False, CphlocError(f"{type(error).__name__}: {error}")
        return False, error
