"""Register published entries with MLflow, to compare them in its UI."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Container, Sequence
from functools import partial
from pathlib import Path

from packaging.version import Version

from cphloc import paths
from cphloc.errors import DataError, RecipeError
from cphloc.progress import track
from cphloc.publishing.agreement import first_disagreement
from cphloc.publishing.mlflow_facts import published_version
from cphloc.tracking.published import PublishedVersion
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
    return register.run_id(str(entry)) or _with_files(register.register, entry, folder)


def _with_files(do: Callable[[PublishedVersion], str], entry: Entry, folder: Path) -> str:
    with tempfile.TemporaryDirectory() as aside:
        return do(published_version(entry, _copied(entry, folder, Path(aside) / entry.version)))


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


def show_newest(places: Sequence[str]) -> list[str]:
    """Log the summary runs of the newest versions of the zoo folders, so that MLflow's table of runs shows each entry.

    Args:
        places: folders and URLs; those at URLs are left out.

    Returns:
        as `register_zoos`.

    Raises:
        CphlocError: MLflow cannot be reached.
    """
    with open_register() as register:
        by_age = sorted(_all_usable(places), key=lambda of_zoo: Version(of_zoo[1].version))
        newest = {listing.name: (zoo, listing) for zoo, listing in by_age if not listing.superseded_by}
        missing = [(zoo, listing) for zoo, listing in newest.values() if register.shown(str(listing)) is None]
        return _each(missing, partial(_with_files, register.show))


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
    with open_register() as register:
        missing = [(zoo, one) for zoo, one in _all_usable(places) if register.run_id(str(one)) is None]
        return _each(missing, partial(_with_files, register.register))


def _all_usable(places: Sequence[str]) -> list[tuple[Path, Listing]]:
    """Versions of the zoo folders, each with its folder: of a version in several, the first, as `find_entry`."""
    folders = [folder for place in places if (folder := local_folder(place)) is not None and folder.is_dir()]
    found: dict[str, tuple[Path, Listing]] = {}
    for zoo in folders:
        for listing in _usable(zoo):
            found.setdefault(str(listing), (zoo, listing))
    return list(found.values())


def _each(versions: list[tuple[Path, Listing]], do: Callable[[Entry, Path], str]) -> list[str]:
    """Do something with each version; a line for each that is left out."""
    problems = []
    for zoo, listing in track(versions, "registering with MLflow", unit="versions"):
        wrong = None if zoo == paths.shipped("zoo") else first_disagreement(listing)
        try:
            if wrong is None:
                do(listing.entry, Path(listing.place))
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
