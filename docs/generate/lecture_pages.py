"""Pages of the lecture: each system with formula, picture, recipe and verdict, and the studies with their numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from markdown_text import plain, table

ROOT = Path(__file__).parent.parent.parent
LECTURE, SYSTEMS = ROOT / "recipes" / "lecture", ROOT / "recipes" / "systems"
CHAPTERS: list[dict[str, Any]] = yaml.safe_load((Path(__file__).parent / "lecture.yaml").read_text(encoding="utf-8"))
"""Chapters with their systems."""
RESULTS = Path(__file__).parent / "systems.json"
"""What `make systems` measured."""

_INTRODUCTION = """\
# The systems of the lecture

A lecture on localization in medical imaging goes from fully connected networks by way of attention and detectors to
U-Nets. Here is each of its systems with formula, recipe and results. Each is a recipe of `recipes/systems`;
`cphloc check gap`, `cphloc describe gap` and `cphloc train gap` work on each by its name. They train on synthetic
images, so nothing has to be downloaded. Verdicts are those of the
[studies](studies.md): **holds**, **fails** or **undecided** over several seeds, with intervals.

`make systems` trains every system with three seeds, and with shuffled annotations, where the cases of training and
validation have each other's. Score and baseline are means over the seeds of the headline metric on 60 test cases, after
training on 200 cases where the recipe names no other number; the difference is the smallest of the seeds, paired by
case, with its 95 % interval. A system **learns** where its score is at least the stated one within the stated CPU time
on one core, every seed is above the baseline by more than the smallest effect of interest of the studies, and training
with shuffled annotations is not. A network that learned nothing can be above the baseline by chance, so up to three
orders of the annotations are tried, and the smallest difference is shown. Where a training is missing, the verdict says
which; the other numbers are those of the trainings that are finished. Stated scores were chosen after a first look. No
verdict is a statement about a method: the tasks are small and synthetic.
"""
_MEASURED = ("system", "recipe", "chapter", "score", "stated", "baseline", "difference", "shuffled", "CPU s", "verdict")


def pages() -> Iterator[tuple[str, str | bytes]]:
    """Yield the page of the systems, that of the studies, and the figures of the studies."""
    yield "lecture/systems.md", _systems()
    yield "lecture/studies.md", (LECTURE / "README.md").read_text(encoding="utf-8")
    for figure in sorted((LECTURE / "figures").glob("*.svg")):
        yield f"lecture/figures/{figure.name}", figure.read_bytes()


def _systems() -> str:
    measured = json.loads(RESULTS.read_text(encoding="utf-8"))["systems"]
    rows = [
        (
            f"[{system['name']}](#{system['recipe']})",
            f"`{system['recipe']}`",
            chapter["chapter"],
            *_measured(measured.get(system["recipe"])),
        )
        for chapter in CHAPTERS
        for system in chapter["systems"]
    ]
    lines = [_INTRODUCTION, table(_MEASURED, rows)]
    for chapter in CHAPTERS:
        lines.append(f"## {chapter['chapter']}\n")
        for system in chapter["systems"]:
            lines += _system(system)
    return "\n".join(lines)


def _measured(result: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Format the results of one system as cells of the table."""
    if result is None:
        return "", "", "", "", "", "", "not measured yet"
    shuffled, stated = result["shuffled"], result["stated"]
    return (
        f"{result['metric']} {result['score']:.2f}",
        f"{stated['score']:.2f} in {stated['minutes']:g} min",
        f"{result['baseline']:.2f}",
        _interval(min(result["differences"], key=lambda found: found[1] or 0)),
        _interval(min(shuffled, key=lambda found: found[0])) if shuffled else "not measured yet",
        f"{result['cpu_seconds']:.0f}",
        "; ".join(result["problems"]) or "learns",
    )


def _interval(found: Sequence[float | None]) -> str:
    value, low, high = (math.nan if number is None else number for number in found)
    return f"{value:+.2f} ({low:+.2f} to {high:+.2f})"


def _system(system: Mapping[str, Any]) -> Iterator[str]:
    """Yield the section of one system; the picture is that of its first study that has one."""
    yield f"### {system['name']} {{#{system['recipe']}}}\n"
    yield f"```math\n{system['formula']}\n```\n"
    yield f"{plain(system['text'])}\n"
    recipe = (SYSTEMS / f"{system['recipe']}.yaml").read_text(encoding="utf-8")
    body = "\n".join(line for line in recipe.splitlines() if not line.startswith("# yaml-language-server"))
    yield f"```yaml\n{body}\n```\n"
    yield from map(_verdict, system["studies"])
    drawn = [name for name in system["studies"] if (LECTURE / "figures" / f"{name}.svg").exists()]
    if drawn:
        yield f"\n![{drawn[0]}](figures/{drawn[0]}.svg){{ loading=lazy }}\n"


def _verdict(study: str) -> str:
    """Write the claim of a study and whether it holds; the anchor is that of the page of studies."""
    stated = yaml.safe_load((LECTURE / f"{study}.yaml").read_text(encoding="utf-8"))
    results = LECTURE / "results" / f"{study}.json"
    facts = json.loads(results.read_text(encoding="utf-8")) if results.exists() else {}
    verdict = facts.get("verdict", "not measured under this protocol")
    return f"- {plain(stated['claim'])}: **{verdict}** ([{study}](studies.md#{study}))"
