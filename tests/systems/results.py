"""Write the results of the finished jobs to a JSON file: score, baseline, time and verdict of every system."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cphloc.files import atomic

from .job import FACTS
from .systems import OF_INTEREST, SEEDS, SHUFFLES, SYSTEMS, Bar


def write(work: Path, path: Path) -> None:
    """Write the results of every system below ``work`` that has at least as many arms there as the file holds."""
    kept = json.loads(path.read_text(encoding="utf-8"))["systems"] if path.is_file() else {}
    found = {name: _fuller(result(work / name, bar), kept.get(name)) for name, bar in SYSTEMS.items()}
    facts = {"systems": {name: row for name, row in found.items() if row}}
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def _fuller(new: dict[str, Any] | None, old: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the result with more arms; of equal ones the new one."""
    return new if _arms(new) >= _arms(old) else old


def _arms(row: Mapping[str, Any] | None) -> int:
    return 0 if row is None else len(row["scores"]) + len(row["shuffled"])


def result(folder: Path, bar: Bar) -> dict[str, Any] | None:
    """Summarize the finished jobs of a system; ``None`` where no seed is finished."""
    seeds, shuffled = ([job for arm in arms if (job := read(folder / arm))] for arms in (SEEDS, SHUFFLES))
    if not seeds:
        return None
    return {
        "metric": seeds[0]["metric"],
        "steps": seeds[0]["steps"],
        "score": statistics.mean(job["score"]["value"] for job in seeds),
        "scores": [job["score"]["value"] for job in seeds],
        "baseline": statistics.mean(job["baseline"]["value"] for job in seeds),
        "differences": [_interval(job) for job in seeds],
        "shuffled": [_interval(job) for job in shuffled],
        "cpu_seconds": statistics.mean(job["cpu_seconds"] for job in seeds),
        "processor": seeds[0]["processor"],
        "stated": {"score": bar.score, "minutes": bar.minutes},
        "problems": problems(seeds, shuffled, bar),
    }


def problems(seeds: Sequence[Mapping[str, Any]], shuffled: Sequence[Mapping[str, Any]], bar: Bar) -> list[str]:
    """List what a system does not reach.

    Args:
        seeds: facts of its finished jobs with true annotations.
        shuffled: facts of its jobs with shuffled annotations, in one order or more.
        bar: what it must reach.
    """
    found = []
    if len(seeds) < len(SEEDS):
        found.append(f"it was trained with {len(seeds)} of {len(SEEDS)} seeds")
    if statistics.mean(job["score"]["value"] for job in seeds) < bar.score:
        found.append(f"its score is below {bar.score:g}")
    if not all(map(above, seeds)):
        found.append("it is not above its baseline with every seed")
    if statistics.mean(job["cpu_seconds"] for job in seeds) > 60 * bar.minutes:
        found.append(f"it takes longer than {bar.minutes:g} minutes")
    if all(map(above, shuffled)):
        orders = f"in {len(shuffled)} of {len(SHUFFLES)} orders"
        found.append(
            "it was not trained with shuffled annotations"
            if not shuffled
            else f"it is above its baseline with shuffled annotations, {orders}"
        )
    return found


def above(job: Mapping[str, Any]) -> bool:
    """Return whether the whole interval of the difference to the baseline is above the smallest effect of interest."""
    return (job["difference"]["low"] or 0) > OF_INTEREST[job["metric"]]


def read(folder: Path) -> dict[str, Any] | None:
    """Read the facts of a job; ``None`` where it is not finished."""
    path = folder / FACTS
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _interval(job: Mapping[str, Any]) -> list[float | None]:
    """Mean of the paired difference to the baseline, and the ends of its 95 % interval."""
    return [job["difference"][key] for key in ("value", "low", "high")]
