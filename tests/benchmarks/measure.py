"""Measure cphloc and its peers in turn, in CPU seconds, so that a busy machine shifts all of them alike."""

from __future__ import annotations

import math
import os
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

STAT = Path("/proc/stat")
"""Where Linux counts the time of each processor."""

SHORTEST_SECONDS = 0.1
"""Quicker work is repeated until it takes this long, because its neighbours' use of the caches would drown it."""

LONG_SECONDS = 4.0
"""Work that takes longer at first is not done once more to see whether it needs repeating."""

VERY_LONG_SECONDS = 20.0
"""Where somebody takes longer, all do the job in one round after the warm-up."""


@dataclass(frozen=True)
class Contender:
    """Who does a job. ``prepare`` imports what it needs and returns the job; nothing of that is measured."""

    name: str
    prepare: Callable[[], Callable[[], Any]]


@dataclass(frozen=True)
class Goal:
    """What we want, in words, and whether it is reached with our median and that of the best peer.

    An ``absolute`` one needs no peer.
    """

    words: str
    reached: Callable[[float, float], bool]
    absolute: bool = False


@dataclass(frozen=True)
class Comparison:
    """One job done by cphloc and by its peers.

    Args:
        job: in words.
        ours: how cphloc does it.
        peers: how others do it; one that is not installed is named as such.
        goal: what we want.
        variants: other ways of ours, which no goal counts.
        same: whether our output and a peer's agree; ``None`` where there is nothing to compare.
    """

    job: str
    ours: Contender
    peers: Sequence[Contender] = ()
    goal: Goal | None = None
    same: Callable[[Any, Any], bool] | None = None
    variants: Sequence[Contender] = ()


@dataclass
class Result:
    """What was measured: median CPU seconds by contender, and what there is to say of each peer."""

    job: str
    ours: str
    goal: str
    seconds: dict[str, float] = field(default_factory=dict)
    spread: dict[str, tuple[float, float]] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    reached: bool | None = None

    def ratio(self, peer: str) -> float:
        """How many times more CPU a peer takes."""
        return self.seconds[peer] / self.seconds[self.ours]


def times_less(factor: float) -> Goal:
    """At least ``factor`` times less CPU than the best peer."""
    return Goal(f"{factor:g} times less", lambda ours, best: ours * factor <= best)


def times_at_most(factor: float) -> Goal:
    """At most ``factor`` times the CPU of the best peer."""
    return Goal(f"at most {factor:g} times", lambda ours, best: ours <= factor * best)


def more_at_most(seconds: float) -> Goal:
    """At most ``seconds`` more CPU than the best peer."""
    return Goal(f"at most {seconds:g} s more", lambda ours, best: ours <= best + seconds)


def below(seconds: float) -> Goal:
    """Less than ``seconds``, whatever the peers take."""
    return Goal(f"below {seconds * 1e3:g} ms", lambda ours, best: ours < seconds, absolute=True)


def cpu_seconds() -> float:
    """CPU time of this process, all its threads, and its children that have ended."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(u.ru_utime + u.ru_stime for u in used)


def busy_share(seconds: float) -> float:
    """Share of one core that other processes used over so many seconds; 0 where the system does not state it."""
    if not STAT.is_file():
        return 0.0
    before, own, start = _busy_seconds(), cpu_seconds(), time.monotonic()
    time.sleep(seconds)
    return max(0.0, (_busy_seconds() - before - (cpu_seconds() - own)) / (time.monotonic() - start))


def _busy_seconds() -> float:
    """CPU seconds of all processes since the machine started; those stolen by other machines count too."""
    user, nice, system, _idle, _wait, irq, softirq, steal = map(int, STAT.read_text().split("\n")[0].split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def measure(comparison: Comparison, rounds: int) -> Result:
    """Let everybody warm up, then do the job ``rounds`` times in turn, every other time in reverse."""
    result = Result(comparison.job, comparison.ours.name, comparison.goal.words if comparison.goal else "")
    jobs: dict[str, Callable[[], Any]] = {}
    for contender in (comparison.ours, *comparison.variants, *comparison.peers):
        try:
            jobs[contender.name] = contender.prepare()
        except ImportError as error:
            result.missing[contender.name] = error.name or str(error)
    try:
        times = _times(comparison, jobs, rounds, result)
    finally:
        for job in jobs.values():
            if isinstance(job, Apart):
                job.close()
    result.seconds = {name: statistics.median(found) for name, found in times.items()}
    result.spread = {name: (min(found), max(found)) for name, found in times.items()}
    best = min((result.seconds[peer.name] for peer in comparison.peers if peer.name in jobs), default=math.nan)
    if comparison.goal is not None and (comparison.goal.absolute or not math.isnan(best)):
        result.reached = comparison.goal.reached(result.seconds[result.ours], best)
    return result


def _times(
    comparison: Comparison, jobs: dict[str, Callable[[], Any]], rounds: int, result: Result
) -> dict[str, list[float]]:
    """CPU seconds of every round by contender; whether the outputs agree is noted in the result."""
    repeats = {}
    for name, job in jobs.items():
        start = _clock(job)
        output = job()
        took = _clock(job) - start
        rounds = 1 if took > VERY_LONG_SECONDS else rounds
        took = _timed(job, 1) if took < LONG_SECONDS else took
        repeats[name] = max(1, math.ceil(SHORTEST_SECONDS / max(took, 1e-7)))
        if name == result.ours:
            our_output = output
        elif comparison.same is not None:
            result.outputs[name] = "same" if comparison.same(our_output, output) else "DIFFERENT"
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in range(rounds):
        for name in list(jobs)[:: -1 if turn % 2 else 1]:
            times[name].append(_timed(jobs[name], repeats[name]))
    return times


def _timed(job: Callable[[], Any], repeats: int) -> float:
    start = _clock(job)
    for _ in range(repeats):
        job()
    return (_clock(job) - start) / repeats


def _clock(job: Callable[[], Any]) -> float:
    """CPU time of the process that does a job."""
    return job.cpu_seconds() if isinstance(job, Apart) else cpu_seconds()


class Apart:
    """A job in a process of its own, which has the memory settings that its users have, not those of cphloc.

    Args:
        prepare: as of a `Contender`, but a function of a module or a ``functools.partial`` of one.
    """

    def __init__(self, prepare: Callable[[], Callable[[], Any]]) -> None:
        self._pipe, theirs = get_context("spawn").Pipe()
        self._process = get_context("spawn").Process(target=_serve, args=(prepare, theirs), daemon=True)
        self._process.start()
        theirs.close()
        missing = self._pipe.recv()
        if missing is not None:
            raise ImportError(name=missing)

    def __call__(self) -> Any:
        """Do the job once; the output of the first time is returned, later ones are not."""
        self._pipe.send("run")
        return self._pipe.recv()

    def cpu_seconds(self) -> float:
        """CPU time of the process."""
        self._pipe.send("clock")
        return self._pipe.recv()

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()


def apart(prepare: Callable[[], Callable[[], Any]]) -> Callable[[], Apart]:
    """Return a ``prepare`` of a `Contender` that does its job `Apart`."""
    return partial(Apart, prepare)


def _serve(prepare: Callable[[], Callable[[], Any]], pipe: Any) -> None:
    """Do what a pipe asks for, until it is closed."""
    try:
        job = prepare()
    except ImportError as error:
        pipe.send(error.name or str(error))
        return
    pipe.send(None)
    first = True
    while True:
        if pipe.recv() == "clock":
            pipe.send(time.process_time())
        else:
            output = job()
            pipe.send(output if first else None)
            first = False
