"""Register published entries with MLflow, to compare them in its UI."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Container, Sequence
from pathlib import Path

from cphloc import paths
from cphloc.errors import DataError, RecipeError
from cphloc.publishing.agreement import first_disagreement
from cphloc.publishing.mlflow_facts import published_version
from cphloc.tracking.zoo_register import Register, open_register
from cphloc.zoo.entries import Listing, list_entries
from cphloc.zoo.entry import Entry, File
from cphloc.zoo.inside import file_inside, lies_in
from cphloc.zoo.names import ENTRY_FILE, UNPINNED
from cphloc.zoo.shadowed import local_folder


def register_entry(entry: Entry, folder: Path) -> str:
    """Register a version: a summary run in the zoo's experiment, a LoggedModel and a version in the model registry.

    An entry that is already registered is not changed.

    Args:
        entry: the entry.
        folder: its files.

    Returns:
        id of the summary run.

    Raises:
        DataError: a file leads out of the folder, or is not the one that was published.
        CphlocError: MLflow cannot be reached.
    """
    with open_register() as register:
        return _registered(register, entry, folder)


def _registered(register: Register, entry: Entry, folder: Path) -> str:
    if (known := register.run_id(str(entry))) is not None:
        return known
    with tempfile.TemporaryDirectory() as aside:
        return register.register(published_version(entry, _copied(entry, folder, Path(aside) / entry.version)))


def _copied(entry: Entry, folder: Path, to: Path) -> Path:
    """Copy the files that an entry pins and its signature: a stranger's folder may hold links to anything else.

    Raises:
        DataError: a file leads out of the folder, or is not the one that was published.
    """
    pinned = {**entry.files, **({entry.weights.file: entry.weights} if entry.weights.file is not None else {})}
    for name, expected in pinned.items():
        copy = to / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        here = file_inside(folder, name)
        if expected is entry.weights and not here.exists():
            here = Listing(entry.name, entry.version, folder).weights_path()
        shutil.copyfile(here, copy)
        if File.of(copy).sha256 != expected.sha256:
            msg = f"{folder / name}: is not the file that {entry} pins; download or publish the entry again"
            raise DataError(msg)
    for name in UNPINNED:
        if name == ENTRY_FILE or (folder / name).is_file():
            shutil.copyfile(file_inside(folder, name), to / name)
    return to


def register_zoo(folder: str | Path, without: Container[str] = ()) -> list[str]:
    """Register every version of a zoo folder that is not registered yet.

    Args:
        folder: the zoo.
        without: versions to leave out, as ``name@1.2.0``.

    Returns:
        the versions, oldest first.

    Raises:
        CphlocError: MLflow cannot be reached, or a version is not the one that was published.
    """
    found = [listing for listing in _usable(folder) if str(listing) not in without]
    with open_register() as register:
        for listing in found:
            _registered(register, listing.entry, Path(listing.place))
    return [str(listing) for listing in found]


def register_zoos(places: Sequence[str]) -> list[str]:
    """Register every version of the zoo folders among ``places``, apart from those that contradict themselves.

    The shipped zoo was checked when it was released.

    Args:
        places: folders and URLs; those at URLs are left out.

    Returns:
        a line for each version that was left out: which, and why.

    Raises:
        CphlocError: MLflow cannot be reached.
    """
    problems = []
    folders = [folder for place in places if (folder := local_folder(place)) is not None and folder.is_dir()]
    with open_register() as register:
        for zoo, listing in [(folder, listing) for folder in folders for listing in _usable(folder)]:
            if register.run_id(str(listing)) is not None:
                continue
            wrong = None if zoo == paths.shipped("zoo") else first_disagreement(listing)
            try:
                if wrong is None:
                    _registered(register, listing.entry, Path(listing.place))
            except (DataError, RecipeError) as error:
                wrong = str(error).splitlines()[0]
            if wrong is not None:
                problems.append(f"{listing} is left out of MLflow: {wrong}")
    return problems


def _usable(folder: str | Path) -> list[Listing]:
    """Versions of a zoo folder, oldest first: MLflow counts them in this order, and the last is ``latest``."""
    folder = Path(folder)
    here = list_entries(all_versions=True, zoos=[str(folder)])
    return [one for one in reversed(here) if lies_in(folder, Path(one.place)) and not one.note]
