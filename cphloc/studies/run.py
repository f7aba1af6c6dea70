"""Run a study: its unfinished jobs, on this machine or a Ray cluster, then its tables, figure and MLflow run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cphloc.config import jsonio
from cphloc.distributed.cluster import Engine, over_jobs
from cphloc.errors import RecipeError
from cphloc.files import atomic
from cphloc.progress import note, progress
from cphloc.studies import jobs
from cphloc.studies.check import check
from cphloc.studies.results import Results
from cphloc.studies.study import Study, load
from cphloc.tracking.provenance import provenance_tags
from cphloc.tracking.tracker import Tracker, run_id

STUDIES = Path("studies")
"""Default folder for the results of studies, in the working folder."""


def study(
    source: str | Path,
    overrides: Mapping[str, Any] | None = None,
    *,
    out: str | Path | None = None,
    engine: Engine = "local",
) -> tuple[Results, Path]:
    """Run a study; jobs that an earlier call has finished are not run again.

    Args:
        source: a study file, or the name of a shipped study.
        overrides: values by dotted key; keys that are not keys of a study apply to the recipes of all arms.
        out: folder of the study; default ``studies/<name>``.
        engine: ``local``, or ``ray`` for the machines of a Ray cluster.

    Returns:
        the results, and the folder with ``results.json``, ``results.csv``, ``figure.svg`` and the runs.

    Raises:
        RecipeError: the study, a recipe or a measure is not valid; the message lists every problem.
        CphlocError: a training failed; the results of finished jobs are kept.
    """
    checked = load(source, overrides)
    folder = Path(out) if out is not None else STUDIES / checked.name
    unfinished = any(jobs.done(job) is None for job in jobs.jobs_of(checked, folder))
    if unfinished and (problems := check(checked)):
        raise RecipeError(problems)
    folder.mkdir(parents=True, exist_ok=True)
    tracker = _tracker(checked, folder)
    planned = jobs.jobs_of(checked, folder, run_id(folder))
    try:
        with progress(checked.name, len(planned), unit="jobs") as advance:
            found = [finished for job in planned if (finished := jobs.done(job)) is not None]
            if found:
                note(f"{len(found)}/{len(planned)} done earlier")
            advance(len(found))
            waiting = jobs.grouped_by_recipe([job for job in planned if jobs.done(job) is None])
            for number, results in over_jobs(jobs.run_all, waiting, engine):
                found += results
                advance(len(results), last=waiting[number][-1].name)
    except BaseException:
        tracker.end("KILLED")
        raise
    results = Results(checked, found)
    _write(results, folder, tracker)
    return results, folder


def _tracker(checked: Study, folder: Path) -> Tracker:
    """Open the MLflow run of the study, which is the parent run of its trainings."""
    tracker = Tracker(folder, f"cphloc/study/{checked.name}", checked.name)
    if not run_id(folder):
        tracker.params(checked.text.model_dump(include={"claim", "expected", "metrics", "seeds", "vary", "grid"}))
        tracker.tags({**provenance_tags(None), "cphloc.study": checked.name})
        tracker.push()
    return tracker


def _write(results: Results, folder: Path, tracker: Tracker) -> None:
    from cphloc.studies.figure import draw

    facts = results.facts()
    with atomic(folder / "results.json") as draft:
        draft.write_text(jsonio.dumps(facts, indent=1) + "\n", encoding="utf-8")
    results.write_csv(folder / "results.csv")
    draw(facts, folder / "figure.svg")
    measured = {f"{row['row']}/{m}": v["value"] for row in facts["rows"] for m, v in row["metrics"].items()}
    tracker.metrics({name: value for name, value in measured.items() if value is not None}, 0)
    tracker.tags({"cphloc.verdict": str(facts["verdict"])})
    for name in ("results.json", "results.csv", "figure.svg"):
        tracker.artifact(folder / name)
    tracker.end()
