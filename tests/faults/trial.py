"""Put every fault into every file operation of a job, do the job again, and compare the end with an undisturbed one."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults import verbs
from tests.faults.faulty_io import KINDS, Point
from tests.faults.server import Done, Server, draw_quickly
from tests.faults.verbs import RECIPE, STUDY, Verb, leftovers, torn_files

ENVIRONMENT = {
    "MLFLOW_TRACKING_URI": "http://localhost:9",
    **{"CPHLOC_OFFLINE": "1", "OMP_NUM_THREADS": "1", "NO_ALBUMENTATIONS_UPDATE": "1", "CPHLOC_ZOO": ""},
}
"""MLflow cannot be reached, so only the log of a run is written; what is sent to a server is tested elsewhere."""


@dataclass(frozen=True)
class Trial:
    """One fault.

    Args:
        point: the file operation.
        kind: the fault.
        how: how the job ended.
        wrong: what did not hold; empty if the job recovered.
    """

    point: Point
    kind: str
    how: str
    wrong: tuple[str, ...]

    @property
    def key(self) -> str:
        """Name of the fault among those of the job."""
        return key_of(self.point, self.kind)

    def __str__(self) -> str:
        place = f"{self.kind} at {self.point.operation} {self.point.count} of {self.point.file} ({self.how})"
        return "\n    ".join([place, *self.wrong])


def key_of(point: Point, kind: str) -> str:
    """Return the name of a fault: file, operation, count and kind, in lines."""
    return f"{point.file}\n{point.operation}\n{point.count}\n{kind}"


def server_for(chosen: Sequence[Verb], base: Path) -> Server:
    """Make the working folders that some jobs start from, each by the jobs themselves."""
    os.environ.update(ENVIRONMENT)
    server = Server(base)
    os.environ["CPHLOC_CACHE"] = str(server.cache)
    server.start_from(None)
    (server.work / "recipe.yaml").write_text(RECIPE)
    (server.work / "study.yaml").write_text(STUDY)
    server.keep_as("recipe")
    draw_quickly()
    _must(server.warm_up(verbs.train))
    needed = {verb.base for verb in chosen}
    steps = ("trained", "evaluated", "published", "predicted")
    last = max((steps.index(base) for base in needed if base in steps), default=-1)
    for template in steps[: last + 1]:
        _STEPS[template](server)
        server.keep_as(template)
    for template in needed & {"interrupted", "study"}:
        _interrupt(server, template)
    return server


def _train(server: Server) -> None:
    server.start_from("recipe")
    _must(server.run(verbs.train))


def _evaluate(server: Server) -> None:
    _must(server.warm_up(verbs.evaluate))


def _publish(server: Server) -> None:
    """Publish, and write an index and a lock of an earlier time."""
    _must(server.warm_up(verbs.publish))
    (server.work / "zoo" / "zoo.json").write_text('{"format": 1, "entries": []}')
    pin = {"version": "0.1.0", "entry_sha256": "0" * 64, "weights_sha256": "1" * 64}
    (server.work / "cphloc.lock").write_text(f"other: {pin}\n".replace("'", '"'))


def _predict(server: Server) -> None:
    _must(server.warm_up(lambda: verbs.predict(0.6)))


_STEPS = {"trained": _train, "evaluated": _evaluate, "published": _publish, "predicted": _predict}


def _interrupt(server: Server, template: str) -> None:
    """Train, or run a study, until the first checkpoint."""
    place, job = ("study/runs/HASH/study", verbs.study) if template == "study" else ("runs/recipe", verbs.train)
    server.start_from("recipe")
    done = server.run(job, Point("rename", f"{place}/RUN/last.safetensors", 1), "kill after")
    if done.how != "killed":
        raise AssertionError(f"{done.value}\n{done.log}")
    server.keep_as(template)


def _must(done: Done) -> Done:
    if done.how != "returned":
        raise AssertionError(f"{done.value}\n{done.log}")
    return done


@dataclass(frozen=True)
class Undisturbed:
    """What a job does, how it ends and how many seconds it takes without a fault."""

    points: list[Point]
    seconds: float
    facts: Any
    before: bytes | None
    after: bytes | None


def undisturbed(server: Server, verb: Verb) -> Undisturbed:
    """Run a job without a fault."""
    _prepare(server, verb)
    path = server.work / verb.file
    before = path.read_bytes() if path.is_file() else None
    started = time.monotonic()
    points = _must(server.run(verb.do, count=True)).points
    seconds = time.monotonic() - started
    after = path.read_bytes() if path.is_file() else None
    facts = _must(server.run(verb.facts)).value
    return Undisturbed(points, seconds, facts, before, after)


def _prepare(server: Server, verb: Verb) -> None:
    server.start_from(verb.base)
    os.environ["CPHLOC_CACHE"] = str(server.work / "cache" if verb.own_cache else server.cache)


def plan(server: Server, verb: Verb) -> tuple[Undisturbed, list[tuple[Point, str]]]:
    """Run a job without a fault; list every fault at its operations, in a fixed random order for a fair sample."""
    expected = undisturbed(server, verb)
    planned = [(point, kind) for point in verb.points(expected.points) for kind in KINDS[point.operation]]
    random.Random(0).shuffle(planned)
    return expected, planned


def attempt(server: Server, verb: Verb, expected: Undisturbed, point: Point, kind: str) -> Trial:
    """Do a job with one fault, then again without."""
    _prepare(server, verb)
    done = server.run(verb.do, point, kind)
    return Trial(point, kind, done.how, (*_wrong_end(done, kind, point), *_recovered(server, verb, expected, done)))


def kill(server: Server, verb: Verb, expected: Undisturbed, seconds: float) -> Trial:
    """Start a job, kill it after so many seconds, wherever it is, and do it again."""
    _prepare(server, verb)
    done = server.run(verb.do, kill_after=seconds)
    point = Point("moment", f"{seconds:.3f} s", 1)
    return Trial(point, "kill", done.how, tuple(_recovered(server, verb, expected, done)))


def _recovered(server: Server, verb: Verb, expected: Undisturbed, done: Done) -> list[str]:
    """What a job that was disturbed has left wrong, and what differs after it was done again."""
    wrong = torn_files(server.work)
    path = server.work / verb.file
    if verb.file and (path.read_bytes() if path.is_file() else None) not in (expected.before, expected.after):
        wrong.append(f"{verb.file} has neither its earlier nor its later content")
    if done.how == "returned":
        again = server.run(verbs.index) if "not in the index yet" in done.log else done  # as the message asks for
    else:
        checked = server.run(lambda: verb.check(done.how, str(done.value)))
        wrong += checked.value if checked.how == "returned" else [f"check: {checked.value}"]
        again = server.run(verb.again)
        if again.how != "returned":
            wrong.append(f"done again: {again.how}: {again.value}")
    if again.how == "returned":
        facts = server.run(verb.facts)
        wrong += _differences(expected.facts, facts, done)
        wrong += [] if done.how == "returned" else leftovers(server.work)
    return wrong


def _wrong_end(done: Done, kind: str, point: Point) -> list[str]:
    """What is wrong with how the job ended: a kill must kill, and an error is one line that names the cause."""
    if not done.hit:
        return ["the operation did not come"]
    if kind in ("torn", "kill before", "kill after"):
        killed = done.how == "killed" and done.value == signal.SIGKILL
        return [] if killed else [f"not killed: {done.how}: {done.value}"]
    said = str(done.value) if done.how == "error" else done.log
    wrong = [f"no error of cphloc: {done.value}"] if done.how == "crash" else []
    if done.how == "error" and ("\n" in said or ".cphloc-" in said):
        wrong.append(f"not one plain line: {said}")
    cause = "No space left" if kind == "full" else "Input/output error"
    if done.how == "error" and cause not in said and "disk" not in said and "incompletely" not in said:
        wrong.append(f"the message does not say why: {said}")
    return wrong


def _differences(expected: Any, found: Done, done: Done) -> list[str]:
    if found.how != "returned":
        return [f"facts: {found.value}"]
    if not isinstance(expected, dict):
        return [] if found.value == expected else ["the end differs from an undisturbed one"]
    said = done.log if done.how == "returned" else ""
    wrong = [key for key in expected if found.value[key] != expected[key]]
    excused = {"pictures", "artifacts"} if "cannot be drawn" in said else set()
    return [
        f"{key}: {found.value[key]!r:.300} instead of {expected[key]!r:.300}" for key in wrong if key not in excused
    ]
