"""Resolve the name of an entry or run, as users write it, to a published version of an entry or to a training run.

Every command with an ENTRY or ENTRY-or-RUN argument uses this module, so that version ranges, ``cphloc.lock``, folders,
URLs and MLflow models work in all of them, with the same messages for misspelt names.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from cphloc.errors import NotFoundError, did_you_mean
from cphloc.paths import names_a_folder
from cphloc.tracking.run import Run
from cphloc.tracking.run_folders import LATEST, run_names
from cphloc.zoo.entries import Listing, NoSuchVersionError, list_entries
from cphloc.zoo.lock import find_locked
from cphloc.zoo.names import ENTRY_FILE, RECIPE_FILE


def resolve_entry(spec: str | Path) -> Listing:
    """Find the version of an entry that ``spec`` names.

    Args:
        spec: ``name``, ``name@1.2.0``, a range such as ``name@^1``, an entry's folder or URL, a model in the
            registry of MLflow, ``models:/name/1``, or a repository on the Hugging Face Hub,
            ``hf://owner/name@1.2.0``. Where ``cphloc.lock`` pins the name, the pinned version.

    Raises:
        NotFoundError: no such entry or version; the message contains the nearest name, or the existing versions.
        InputError: the version needs another cphloc, or the lock file pins another one.
    """
    return find_locked(spec)


def resolve_run_or_entry(spec: str | Path | Run) -> Run | Listing:
    """Open the run of that name, id or folder where there is one, else find the entry.

    Raises:
        NotFoundError: there is neither.
    """
    if isinstance(spec, Run):
        return spec
    if names_an_entry(spec):
        return resolve_entry(spec)
    try:
        return Run.open(spec)
    except NotFoundError:
        if spec == LATEST:
            raise
        try:
            return resolve_entry(spec)
        except NoSuchVersionError:
            raise
        except NotFoundError:
            hint = nearest(spec, run_names()) or "give a run's folder, or a name from: cphloc list zoo"
            msg = f"no run or entry '{spec}'; {hint}"
            raise NotFoundError(msg) from None


def resolve_entry_or_run(spec: str | Path | Run) -> Run | Listing:
    """Find the entry that ``spec`` names, else the run; for a model that predicts, an entry comes before a run's id.

    Raises:
        NotFoundError: there is neither.
    """
    if isinstance(spec, Run):
        return spec
    if names_a_run_folder(spec):
        return Run.open(spec)
    try:
        return resolve_entry(spec)
    except NoSuchVersionError:
        raise
    except NotFoundError as no_entry:
        if names_an_entry(spec):
            raise
        try:
            return Run.open(spec)
        except NotFoundError as no_run:
            raise (no_run if spec == LATEST else no_entry) from None


def names_a_run_folder(spec: str | Path) -> bool:
    """Return whether ``spec`` is the folder of a run, and written as a folder."""
    return names_a_folder(spec) and (Path(spec) / RECIPE_FILE).is_file() and not (Path(spec) / ENTRY_FILE).is_file()


def names_an_entry(spec: str | Path) -> bool:
    """Return whether ``spec`` can only name an entry: it has a version, or is a URL or the folder of an entry."""
    written = "@" in str(spec) or ":/" in str(spec)
    return written or (names_a_folder(spec) and (Path(spec) / ENTRY_FILE).is_file())


def nearest(spec: str | Path, others: Iterable[str] = ()) -> str:
    """Suggest the nearest name of an entry, or of ``others``; empty where none is similar."""
    return did_you_mean(str(spec).partition("@")[0], [*others, *(listing.name for listing in list_entries())])
