"""Write one Markdown page for a folder of studies, with the figures, tables and verdicts of their results."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cphloc.config import jsonio
from cphloc.errors import NotFoundError
from cphloc.files import atomic
from cphloc.studies.confounds import Confound
from cphloc.studies.figure import draw
from cphloc.studies.results import FORMAT, Results, condition_text, limits_text
from cphloc.studies.run import STUDIES
from cphloc.studies.study import Study, load

PAGE, RESULTS, FIGURES = "README.md", "results", "figures"
REPEAT = ".repeat"
"""Ends the name of the folder and of the results of a study that was repeated with other seeds."""

CHAPTERS = (
    "Convolution and translation",
    "Attention supervision",
    "Boxes",
    "Pyramids",
    "Masks",
    "The ladder",
    "Screening",
)
"""Headings of the page in the order of the lecture; studies of other chapters follow."""

_INTRODUCTION = """\
# The lecture as studies

Each study puts one claim of the lecture to the test, over at least five seeds, on synthetic images where it does not
say otherwise. All arms have the same seeds, and differences are paired by seed. On synthetic images every seed draws
other images and, where a network is trained, other first weights. On images of patients, splits and the choice of
annotated cases are fixed: in e25 and e28 to e31 a seed changes only the training, so the intervals do not contain the
variation between patients; in e24, which trains nothing, each seed is a fifth of the cases. Intervals are 95 %
intervals over the seeds by Student's t. The bound of a difference is the smallest effect of interest, which is the same
in all studies: 0.01 for rates of errors, sensitivity and specificity, 0.02 for AUC, Dice, surface Dice and hits of a
biopsy, 0.05 for AP, pointing, mass in the box, side accuracy and shares of a spectrum, 20 steps. **holds** means that
the whole interval of every condition lies beyond its bound, **fails** that one lies wholly on the other side,
**undecided** everything between. A condition is undecided, too, where one of its arms did not learn: where none of its
metrics lies above that of the baseline. A value that was not reached is a lower bound (censored), and decides only what
its bound decides. Arms differ in what they state and in nothing else, and have equal steps, batches and numbers of
trainings to choose from: `cphloc study STUDY --check` compares them with all defaults, and what cannot be equal is
listed. The ladder (e28 to e30) is an exception: all its arms have one learning rate, which was chosen on validation
cases of the arm with all masks alone, and may suit that arm best. Conditions stand in the study's file before it runs;
where a recipe or a condition was chosen after a first look at numbers, the study says so. A study that was repeated
with other seeds says what they gave: their conditions all stood before they ran.

- **Arm**: one of the trainings or methods that a study compares; `a/b` is variant `b` of arm `a`, and `a @ x` is arm
  `a` at the value `x` of the study's grid.
- **Seed**: one repetition of all arms, with its own random numbers.
- **Fails**: also where the effect has the expected sign and is smaller than its bound. It may be no effect at all; it
  need not be one in the other direction.
- **Baseline**: predictions that ignore the image and repeat the average training annotation, measured like an arm. (A
  prior in the name of an arm of e09 is the first probability of an object.)
- **Expected to stay at the baseline**: an arm that lacks, by the claim, what it takes to learn a metric. Conditions on
  it are decided although it did not learn.
- **Label, side, boxes, mask**: what is annotated of a case, from weak to strong: its classes, the half of the image
  where they are, a box around each object, the outline. In the ladder `and boxes` is labels, sides and boxes.
- **Few masks alone**: in the ladder, masks of a tenth of the training cases, without the other annotations.
- **Hits of a biopsy**: the share of simulated needles that hit the object. They are aimed at what the network
  predicts, with a random error.
"""


@dataclass(frozen=True)
class Section:
    """A study and its results.

    Args:
        study: the study.
        facts: content of ``results.json``, decided anew from its values; ``None`` where the study was not run, or was
            changed after its run.
        repeat: the same of a run with other seeds, from ``<study>.repeat.json``.
    """

    study: Study
    facts: Mapping[str, Any] | None
    repeat: Mapping[str, Any] | None = None


def write_page(folder: str | Path, out: str | Path | None = None) -> tuple[Path, dict[str, int]]:
    """Copy new results into the folder, draw every figure, and write the page.

    Args:
        folder: folder of study files; ``README.md``, ``results/`` and ``figures/`` are written there.
        out: folder in which the studies were run; default ``studies``. A repetition with other seeds was run with
            ``--set seeds=[5,6,7,8,9]`` in its folder ``<study>.repeat``.

    Returns:
        the page, and how many ``studies`` there are and how many of them have been ``run``.

    Raises:
        NotFoundError: the folder has no study file.
    """
    folder, out = Path(folder), Path(out) if out is not None else STUDIES
    files = sorted(folder.glob("*.yaml"))
    if not files:
        msg = f"{folder}: no study files here; name a folder of them, such as recipes/lecture"
        raise NotFoundError(msg)
    sections = [_section(path, out) for path in files]
    for section in sections:
        if section.facts is not None:
            draw(section.facts, folder / FIGURES / f"{section.study.name}.svg")
    with atomic(folder / PAGE) as draft:
        draft.write_text("\n".join(page(sections)).rstrip("\n") + "\n", encoding="utf-8")
    return folder / PAGE, {"studies": len(sections), "run": sum(s.facts is not None for s in sections)}


def page(sections: list[Section]) -> Iterator[str]:
    """Yield the lines of the page."""
    yield _INTRODUCTION
    chapters = dict.fromkeys([*CHAPTERS, *(s.study.text.chapter for s in sections)])
    ordered = [s for chapter in chapters for s in sections if s.study.text.chapter == chapter]
    yield "| study | claim | verdict | repeated | CPU min |"
    yield "|---|---|---|---|---|"
    for section in ordered:
        name = section.study.name
        cells = section.study.text.claim, _verdict(section.facts), *_costs(section)
        yield f"| [{name}](#{name}) | {' | '.join(cells)} |"
    yield ""
    for chapter in chapters:
        found = [s for s in ordered if s.study.text.chapter == chapter]
        if found:
            yield f"## {chapter or 'Further studies'}\n"
        for section in found:
            yield from _of_study(section)


def _section(path: Path, out: Path) -> Section:
    study = load(path)
    repeated = f"{study.name}{REPEAT}"
    stored = path.parent / RESULTS / f"{repeated}.json", out / repeated / "results.json"
    seeds = next((json.loads(file.read_text(encoding="utf-8"))["seeds"] for file in stored if file.is_file()), None)
    again = None if seeds is None else _collected(load(path, {"seeds": seeds}), path.parent, out, repeated)
    return Section(study, _collected(study, path.parent, out, study.name), again)


def _collected(study: Study, folder: Path, out: Path, name: str) -> Mapping[str, Any] | None:
    """Copy new results of a study into the folder and return them, or those that the folder holds."""
    kept, new = folder / RESULTS / f"{name}.json", out / name / "results.json"
    if _facts(new, study) is not None:
        with atomic(kept) as draft:
            shutil.copyfile(new, draft)
    facts = _facts(kept, study)
    if facts is not None:
        text = jsonio.dumps(facts, indent=0) + "\n"
        if text != kept.read_text(encoding="utf-8"):
            with atomic(kept) as draft:
                draft.write_text(text, encoding="utf-8")
    return facts


def _facts(path: Path, study: Study) -> Mapping[str, Any] | None:
    """Read the complete results of the current version of a study; ``None`` where there are none."""
    facts = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if not facts.get("complete") or (facts["format"], facts["study_sha256"]) != (FORMAT, study.sha256):
        return None
    return Results.of_facts(study, facts).facts()


def _of_study(section: Section) -> Iterator[str]:
    study, facts = section.study, section.facts
    yield f"### {study.name}\n"
    yield f"**Claim.** {study.text.claim}.\n"
    yield f"**Expected.** {study.text.expected}.\n"
    yield f"**Set-up.** {study.text.setup}\n"
    if facts is None:
        yield "**Not measured under this protocol**: there are no results of this version of the study.\n"
    else:
        yield f"![{study.name}]({FIGURES}/{study.name}.svg)\n"
        yield from _table(facts)
        yield from _conditions(facts)
        yield from _caveats(study, facts)
        seeds, minutes = len(facts["seeds"]), facts["cpu_seconds"] / 60
        yield f"**Verdict: {facts['verdict']}** ({seeds} seeds, {minutes:.1f} CPU minutes).\n"
    if section.repeat is not None:
        yield from _repeated(section.repeat)
    yield f"```console\ncphloc study {study.name}\n```\n"


def _repeated(facts: Mapping[str, Any]) -> Iterator[str]:
    seeds = ", ".join(map(str, facts["seeds"]))
    found = "; ".join(f"{condition_text(condition)}: {condition['verdict']}" for condition in facts["conditions"])
    yield f"**Repeated with the seeds {seeds}: {facts['verdict']}** ({found}).\n"


def _table(facts: Mapping[str, Any]) -> Iterator[str]:
    metrics = facts["metrics"]
    yield f"| | {' | '.join(metrics)} |"
    yield "|---|" + "---|" * len(metrics)
    for row in facts["rows"]:
        title = row["row"] if row["at"] is None else f"{row['row']} @ {row['at']}"
        yield f"| {title} | {' | '.join(_cell(row, metric) for metric in metrics)} |"
    yield ""
    if facts["differences"]:
        yield "| paired difference | metric | |"
        yield "|---|---|---|"
        for found in facts["differences"]:
            where = "" if found["at"] is None else f" @ {found['at']}"
            yield f"| {found['first']} - {found['second']}{where} | {found['metric']} | {_interval(found, '+')} |"
        yield ""


def _cell(row: Mapping[str, Any], metric: str) -> str:
    """Format a metric of a row, followed by the mean of its baseline over the seeds where the two differ."""
    value, prior = _interval(row["metrics"].get(metric)), row["baseline"].get(metric, [])
    known = [one for one in prior if one is not None]
    if not value or not known or prior == row["values"][metric]:
        return value
    return f"{value}, baseline {sum(known) / len(known):.3f}"


def _conditions(facts: Mapping[str, Any]) -> Iterator[str]:
    for condition in facts["conditions"]:
        yield f"- {condition_text(condition)}: {condition['verdict']}"
    yield ""


def _caveats(study: Study, facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield what limits the verdict: arms that did not learn, and differences that no arm states."""
    if facts["recipes_sha256"] and not any(row["baseline"] for row in facts["rows"]):
        yield "**Baseline not measured**: its measures have none, or the values were stored before studies had one.\n"
    if facts["not_learned"]:
        yield f"**Not above its baseline**: {', '.join(facts['not_learned'])}; conditions on it are undecided.\n"
    if study.text.after_look:
        yield f"**Chosen after a first look at numbers**: {study.text.after_look}.\n"
    for arm, reason in study.text.cannot_learn.items():
        yield f"**Expected to stay at the baseline**: {arm}; {reason}.\n"
    for found in facts["confounds"]:
        yield f"**Arms also differ in** {Confound(**found)}; {found['reason'] or 'no reason is given'}.\n"


def _verdict(facts: Mapping[str, Any] | None) -> str:
    return "not measured under this protocol" if facts is None else f"**{facts['verdict']}**"


def _costs(section: Section) -> tuple[str, str]:
    """Return the verdict of the repetition and the CPU minutes of the study, empty where there is none."""
    again = "" if section.repeat is None else _verdict(section.repeat)
    return again, "" if section.facts is None else f"{section.facts['cpu_seconds'] / 60:.1f}"


def _interval(found: Mapping[str, Any] | None, sign: str = "") -> str:
    if found is not None and found.get("n_censored"):
        return limits_text(found, sign)
    if found is None or found["value"] is None:
        return ""
    if found["low"] is None or found["low"] == found["high"]:
        return f"{found['value']:{sign}.4g}"
    digits = ".3f" if abs(found["value"]) < 100 else ".0f"
    return f"{found['value']:{sign}{digits}} ({found['low']:{sign}{digits}} to {found['high']:{sign}{digits}})"
