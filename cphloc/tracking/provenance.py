"""MLflow tags that state who started a run, with which command, and from which commit."""

from __future__ import annotations

import getpass
import shlex
import sys
from pathlib import Path

from cphloc.errors import without_secrets
from cphloc.tracking.run import Run

_LONGEST = 250


def provenance_tags(commit: str | None, source: str = "") -> dict[str, str]:
    """Return the tags from which MLflow's user interface shows user, source and version of a run.

    Args:
        commit: git commit of cphloc; ``None`` for an installed one.
        source: the command; by default that of this process.
    """
    tags = {"mlflow.user": _user(), "mlflow.source.name": source or _command(), "mlflow.source.type": "LOCAL"}
    return tags | ({"mlflow.source.git.commit": commit} if commit else {})


def run_tags(run: Run, commit: str | None, parent: str = "") -> dict[str, str]:
    """Return the tags of a training: who started it and how, its recipe, and the run that it is part of.

    Args:
        run: the run.
        commit: see `provenance_tags`.
        parent: id of the MLflow run of a cross-validation, sweep or study; empty without one.
    """
    tags = {**provenance_tags(commit), "cphloc.run": run.id, "cphloc.recipe": run.recipe.name}
    tags |= {"mlflow.note.content": run.recipe.description} if run.recipe.description else {}
    return tags | ({"mlflow.parentRunId": parent} if parent else {})


def _user() -> str:
    """Return the name of the user of this process, who has none in some containers."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "unknown"


def _command() -> str:
    """Return the command of ``cphloc`` that runs, or the name of the script that uses it."""
    script = Path(sys.argv[0] or "python")
    if script.stem == "cphloc" or script.parent.name == "cli":
        return without_secrets(shlex.join(["cphloc", *sys.argv[1:]]))[:_LONGEST]
    return script.name
