"""Show how far a long computation is, on the error stream: of downloads, data sets, trainings and studies alike.

A terminal gets a bar, a notebook a bar in the cell, and a log file a line a minute. ``CPHLOC_QUIET=1`` (the option
``--quiet`` of every command) switches all of it off.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Literal, Protocol, TypeVar

from cphloc.errors import one_line

Item = TypeVar("Item")
Unit = Literal["", "cases", "steps", "jobs", "versions", "bytes"]

QUIET = "CPHLOC_QUIET"
"""Environment variable that switches progress off; child processes inherit it."""

FIRST_LINE_SECONDS = 10.0
"""Time after which a log file gets its first line, so that short computations write none."""

LINE_SECONDS = 60.0
"""Time between the lines in a log file."""

REDRAW_SECONDS = 0.2
"""Least time between two changes of a bar."""


class Advance(Protocol):
    """Function that reports what was done since its last call."""

    def __call__(self, count: int = 1, /, **facts: object) -> None:
        """Report ``count`` more units, and what is known by now, such as ``loss=0.3``."""


class View(Protocol):
    """One way to show the state of a computation."""

    at_once: bool
    """Whether to show the beginning."""
    seconds_between: float
    """Least time between two calls of `show`."""

    def show(self, state: State) -> None:
        """Show the state."""
        ...

    def close(self, state: State) -> None:
        """Show the last state and tidy up."""
        ...


class State:
    """How far a computation is.

    Args:
        what: name of the computation.
        total: units to do; ``None`` if unknown.
        done: units that were done earlier, which do not count for the time that is left.
        unit: what is counted.
        budget: seconds after which the computation ends, whether all units are done or not; ``None`` for no limit.
    """

    def __init__(
        self, what: str, total: int | None, done: int = 0, unit: Unit = "", budget: float | None = None
    ) -> None:
        self.what, self.total, self.done, self.unit, self.budget = one_line(what), total, done, unit, budget
        self.facts: dict[str, object] = {}
        self._earlier, self._began = done, time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the computation began."""
        return time.monotonic() - self._began

    @property
    def seconds_left(self) -> float | None:
        """Seconds that are left at the mean speed so far, or of the budget; ``None`` if that is not known yet."""
        new = self.done - self._earlier
        if self.total is None or new <= 0:
            return None
        left = self.seconds / new * max(self.total - self.done, 0)
        return left if self.budget is None else min(left, max(self.budget - self.seconds, 0.0))

    @property
    def share(self) -> float | None:
        """Share of the computation that is done, of its units or of its time, in [0, 1]; ``None`` if unknown."""
        if not self.total:
            return None
        of_units = self.done / self.total
        return of_units if self.budget is None else min(1.0, max(of_units, self.seconds / self.budget))

    @property
    def count(self) -> str:
        """What is done, as text: ``1200/6000 steps (20 %)``."""
        if self.unit == "bytes":
            of = "" if self.total is None else f"/{self.total / 1e6:.1f}"
            text = f"{self.done / 1e6:.1f}{of} MB"
        else:
            text = f"{self.done}{'' if self.total is None else f'/{self.total}'} {self.unit}".rstrip()
        return text if self.share is None else f"{text} ({int(100 * self.share + 1e-9)} %)"

    @property
    def details(self) -> str:
        """What is known by now, as text: ``loss 0.3, best dice 0.81``."""
        return ", ".join(
            f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}".strip()
            for name, value in self.facts.items()
        )

    def line(self, ended: bool = False) -> str:
        """Return the state as one line, with the time that is left, or the time that it took."""
        left = self.seconds_left
        timing = f"took {_duration(self.seconds)}" if ended else "" if left is None else f"{_duration(left)} left"
        return one_line(f"{self.what}: {', '.join(part for part in (self.count, self.details, timing) if part)}")


@contextmanager
def progress(
    what: str,
    total: int | None,
    done: int = 0,
    unit: Unit = "",
    always_end: bool = False,
    budget: float | None = None,
) -> Iterator[Advance]:
    """Context manager that shows how far a computation is; gives the function that advances it.

    Args:
        what: name of the computation.
        total: units to do; ``None`` if unknown.
        done: units that were done earlier.
        unit: what is counted.
        always_end: write the last line to a log file also where the computation was short.
        budget: seconds after which the computation ends, whether all units are done or not; ``None`` for no limit.
    """
    state, view, lock = State(what, total, done, unit, budget), _view(always_end), threading.Lock()
    shown_at = time.monotonic()

    def advance(count: int = 1, /, **facts: object) -> None:
        """Count units that were done, and show them at intervals."""
        nonlocal shown_at
        with lock:
            state.done += count
            state.facts.update(facts)
            now = time.monotonic()
            if now - shown_at >= view.seconds_between:
                shown_at = now
                view.show(state)

    try:
        if view.at_once:
            view.show(state)
        yield advance
    finally:
        view.close(state)


def track(items: Iterable[Item], what: str, total: int | None = None, unit: Unit = "cases") -> Iterator[Item]:
    """Give the items of an iterable and show how many have been processed.

    Args:
        items: what to iterate over.
        what: name of the computation.
        total: number of items, where they have no length.
        unit: what the items are.

    >>> list(track([1, 2], "reading"))
    [1, 2]
    """
    if total is None and isinstance(items, Sequence):
        total = len(items)
    with progress(what, total, unit=unit) as advance:
        for item in items:
            yield item
            advance()


def note(text: str) -> None:
    """Print a remark on the progress, such as the result of a fold, on the error stream unless that is switched off."""
    if not is_quiet():
        print(one_line(text), file=sys.stderr, flush=True)


@contextmanager
def quiet() -> Iterator[None]:
    """Context manager in which this process and its children show no progress."""
    before = os.environ.get(QUIET, "")
    os.environ[QUIET] = "1"
    try:
        yield
    finally:
        os.environ[QUIET] = before


def is_quiet() -> bool:
    """Return whether progress is switched off, or this is not the first of several processes of a training."""
    return os.environ.get(QUIET, "") not in ("", "0") or os.environ.get("RANK", "0") != "0"


class Nothing:
    """Shows nothing."""

    at_once = False
    seconds_between = float("inf")

    def show(self, state: State) -> None:
        """Do nothing."""

    def close(self, state: State) -> None:
        """Do nothing."""


class Lines:
    """Writes one line a minute to the error stream, and one at the end.

    Args:
        always_end: write the last line also where there was no other.
    """

    at_once = False

    def __init__(self, always_end: bool) -> None:
        self.seconds_between = FIRST_LINE_SECONDS
        self.wrote = always_end

    def show(self, state: State) -> None:
        """Write a line."""
        self.seconds_between, self.wrote = LINE_SECONDS, True
        print(state.line(), file=sys.stderr, flush=True)

    def close(self, state: State) -> None:
        """Write the last line."""
        if self.wrote:
            print(state.line(ended=True), file=sys.stderr, flush=True)


class Cell:
    """Shows a bar in the output of a notebook's cell, which stays there when the computation has ended."""

    at_once = True
    seconds_between = REDRAW_SECONDS

    def __init__(self) -> None:
        self.handle: Any = None

    def show(self, state: State) -> None:
        """Draw the bar."""
        self._draw(state, state.line())

    def close(self, state: State) -> None:
        """Draw the bar for the last time."""
        self._draw(state, state.line(ended=True))

    def _draw(self, state: State, text: str) -> None:
        from html import escape

        from IPython.display import HTML, display

        value = "" if state.share is None else f'value="{state.share:.4f}" max="1"'
        page = HTML(f"<progress {value}></progress> {escape(text)}")
        if self.handle is None:
            self.handle = display(page, display_id=True)
        else:
            self.handle.update(page)


class Bar:
    """Shows a bar on a terminal, which vanishes at the end; several at once share one display."""

    at_once = True
    seconds_between = REDRAW_SECONDS
    _display: Any = None
    _open = 0
    _lock = threading.Lock()

    def __init__(self) -> None:
        self.task: Any = None

    def show(self, state: State) -> None:
        """Draw the bar."""
        with Bar._lock:
            if self.task is None:
                self.task = self._opened(state)
        left = state.seconds_left
        timing = "" if left is None else f"{_duration(left)} left"
        shown = {"count": state.count, "details": state.details, "timing": timing}
        done = state.done if state.share is None else state.share * (state.total or 0)
        Bar._display.update(self.task, completed=done, **shown)

    def _opened(self, state: State) -> Any:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        if Bar._open == 0:
            texts = [TextColumn(f"{{task.fields[{name}]}}", markup=False) for name in ("count", "details", "timing")]
            name = TextColumn("{task.description}", markup=False)
            Bar._display = Progress(name, BarColumn(), *texts, console=Console(stderr=True), transient=True)
            Bar._display.start()
        Bar._open += 1
        return Bar._display.add_task(state.what, total=state.total, count="", details="", timing="")

    def close(self, state: State) -> None:
        """Remove the bar."""
        with Bar._lock:
            if self.task is not None:
                Bar._display.remove_task(self.task)
                Bar._open -= 1
                if Bar._open == 0:
                    Bar._display.stop()
                    Bar._display = None


def _view(always_end: bool) -> View:
    """Choose how to show progress here."""
    if is_quiet():
        return Nothing()
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if type(shell).__name__ == "ZMQInteractiveShell":
        return Cell()
    return Bar() if sys.stderr is not None and sys.stderr.isatty() else Lines(always_end)


def _duration(seconds: float) -> str:
    """Format a duration: seconds below two minutes, minutes below two hours, else hours and minutes.

    >>> _duration(75), _duration(600), _duration(9000)
    ('75 s', '10 min', '2:30 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{str(timedelta(seconds=int(seconds)))[:-3]} h"
