"""Folders of runs: their ids, which sort by the time at which they began, and the run that a name refers to."""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cphloc.errors import NotFoundError, did_you_mean
from cphloc.files import is_temporary
from cphloc.paths import names_a_folder

RUNS = Path("runs")

LATEST = "latest"
"""Name that refers to the run begun last under ``runs`` in the working folder."""

_ID = "%Y%m%d-%H%M%S-%f"


def run_names() -> list[str]:
    """Return the ids of the runs under ``runs`` in the working folder, and ``latest`` if there are any."""
    known = known_runs()
    return [*known, LATEST] if known else []


def known_runs(runs: Path = RUNS) -> dict[str, Path]:
    """Return the folders of the runs under ``runs``, by id."""
    folders = (path.parent for path in runs.glob("*/*/recipe.yaml"))
    return {folder.name: folder for folder in folders if not is_temporary(folder)}


def begun_at(run_id: str) -> datetime:
    """Return the time that an id states; the earliest of all for a folder that was renamed."""
    try:
        begun = datetime.strptime(run_id, _ID)
    except ValueError:
        return datetime.min
    return begun if begun.year < datetime.max.year else datetime.min  # no run could begin later


def next_id(known: Iterable[str]) -> str:
    """Return an id that sorts after all known ones, also where the clock was set back since the last run."""
    now = datetime.now(UTC).replace(tzinfo=None)
    last = max(map(begun_at, known), default=now)
    if last >= now:
        now = last + timedelta(microseconds=random.SystemRandom().randint(1, 1_000_000))  # differs between processes
    return now.strftime(_ID)


def find_run(name: str | Path) -> Path:
    """Return the folder of the run that a name refers to.

    Args:
        name: folder of the run; or, for runs under ``runs`` in the working folder, an id or ``latest``.

    Raises:
        NotFoundError: there is no such run.
    """
    folder = Path(name)
    if names_a_folder(name) and (folder / "recipe.yaml").is_file() and not (folder / "entry.yaml").is_file():
        return folder
    known = known_runs()
    if str(name) == LATEST:
        if not known:
            msg = "there is no run yet under 'runs' in the working folder; begin one with: cphloc train RECIPE"
            raise NotFoundError(msg)
        return known[max(known, key=lambda run_id: (begun_at(run_id), run_id))]
    if str(name) not in known:
        hint = (
            did_you_mean(str(name), known)
            or "give the folder of the run (with a slash, ./run), or start cphloc in the folder that contains 'runs'"
        )
        msg = f"no run '{name}'; {hint}"
        raise NotFoundError(msg)
    return known[str(name)]
