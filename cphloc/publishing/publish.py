"""Publish a run as a version of an entry; nothing is written unless every check passes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cphloc import paths
from cphloc.errors import CphlocError, InputError
from cphloc.files import flush, flush_all, is_temporary, rename_folder, temporary_folder
from cphloc.publishing.card import CASES_FILE
from cphloc.publishing.checks import (
    baseline_problems,
    cross_validation_problems,
    evaluation_problems,
    leak_refusals,
    memory_problems,
    origin_problems,
    regression_problems,
)
from cphloc.publishing.material import SPLIT, Material, gather
from cphloc.publishing.patient import burned_in_problems
from cphloc.structures.split import Split
from cphloc.zoo.entry import Entry
from cphloc.zoo.index import index_zoo, read_index
from cphloc.zoo.names import ENTRY_FILE, INDEX_FILE, WEIGHTS_FILE, check_name
from cphloc.zoo.shadowed import local_folder
from cphloc.zoo.signature import read_private_key
from cphloc.zoo.signature import sign as write_signature
from cphloc.zoo.stored import checked_path

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from cphloc.tracking.run import Run

EACH_BYTES, ALL_BYTES = 8_000_000, 48_000_000
"""Largest size of weights that ship with cphloc: of one version, and of all together."""

_log = logging.getLogger(__name__)


def publish(
    run: str | Path | Run,
    name: str,
    version: str,
    to: str | Path | None = None,
    because: str | None = None,
    about: str | Path | Mapping[str, Any] | None = None,
    sample: str | None = None,
    urls: tuple[str, ...] = (),
    sample_is_clean: bool = False,
    below_baseline: str | None = None,
    sign: str | Path | None = None,
    members: int | None = None,
    supersedes: tuple[str, ...] = (),
    onnx: bool = False,
) -> Entry:
    """Publish a run as ``name`` at ``version``.

    A cross-validation is published as the ensemble of its networks, whose predictions are averaged window by window;
    the metrics of the entry are those of the out-of-fold predictions, each made by one of the networks. Where it was
    evaluated on the test split too, the entry states those metrics beside them.

    Args:
        run: a finished and evaluated run or a cross-validation, or its folder or id. Or an entry, whose weights are
            published anew after `cphloc.publishing.reopen.reopen` has made a run of them and that was evaluated.
        name: of the entry.
        version: ``1.2.0``; one that exists is never overwritten.
        to: zoo folder; by default the first folder of ``CPHLOC_ZOO``, else the shipped zoo.
        because: reason to publish a version that is significantly worse than the one before; stored in the entry.
        about: summary, intended_use, limits and changelog, as a mapping or a YAML file; by default the recipe's own,
            then that of the version before.
        sample: id of the test case to ship as sample; by default the smallest with a detection.
        urls: where the weights will be uploaded; weights that are too large to ship are kept in the cache only, until
            they are uploaded there.
        sample_is_clean: whether a person has looked at the images, which may have text burned in, and found no name.
        below_baseline: reason to publish a version whose headline metric is not above that of its baseline; stored in
            the entry, and stated first on its card and in lists.
        sign: ed25519 private key (OpenSSH or PEM) to sign the entry with, see `cphloc.zoo.signature`.
        members: number of networks to publish of a cross-validation, those of the first folds; by default all.
        supersedes: versions of other names, as ``name@1.2.0``, that this one should be used instead of; they leave
            the default list, and loading one warns.
        onnx: whether to export the network, and to state how far ONNX Runtime differs from torch.

    Returns:
        the new entry.

    Raises:
        InputError: the version exists, publish checks fail (the message lists all problems), or the weights are too
            large for the shipped zoo.
        CphlocError: the zoo cannot be written.
    """
    from cphloc.publishing.freeze import freeze

    key = None if sign is None else read_private_key(sign)
    zoo = zoo_to_write(to)
    check_name(name, version)
    folder = zoo / name / version
    opened = _opened(run)
    if folder.exists():
        return _continue(folder, zoo, opened)
    material = gather(opened, name, zoo, about, members)
    found = publish_problems(material, because, sample_is_clean, below_baseline)
    if found:
        lines = [f"{material.run.folder} cannot be published as {name}@{version}:", *(f"  - {p}" for p in found)]
        raise InputError("\n".join(lines))
    reasons, size = (because, below_baseline), most_bytes(zoo)

    def write(stage: Path) -> Entry:
        """Write the files of the version."""
        return freeze(stage, material, name, version, *reasons, sample, urls, size, supersedes, onnx)

    return placed(zoo, name, version, write, key)


def placed(
    zoo: Path, name: str, version: str, write: Callable[[Path], Entry], key: Ed25519PrivateKey | None = None
) -> Entry:
    """Write the files of a version beside its place, move them there at once, and name the version in the index.

    Args:
        zoo: zoo folder.
        name: of the entry.
        version: one that does not exist yet.
        write: writes the files to an empty folder.
        key: private key to sign the entry with.

    Raises:
        InputError: the version exists by now.
        CphlocError: the zoo cannot be written.
    """
    folder = zoo / name / version
    if folder.exists():
        raise _exists(folder, zoo)
    try:
        with temporary_folder(folder) as stage:
            entry = write(stage)
            if key is not None:
                write_signature(stage, entry, key)
            flush_all(stage)
            if not rename_folder(stage, folder):
                raise _exists(folder, zoo)
    except CphlocError as error:
        if isinstance(error.__cause__, OSError):
            msg = f"{error}; nothing was published"
            raise CphlocError(msg) from error.__cause__
        raise
    finally:
        with suppress(OSError):  # contains other versions, or was not created
            folder.parent.rmdir()
    return _announce(entry, folder, zoo)


def _opened(run: str | Path | Run) -> Run:
    """Open the run, or make one of the entry of that name."""
    from cphloc.publishing.reopen import reopen
    from cphloc.tracking.run import Run
    from cphloc.zoo.resolve import resolve_run_or_entry

    found = resolve_run_or_entry(run)
    return found if isinstance(found, Run) else reopen(found)


def zoo_to_write(to: str | Path | None = None) -> Path:
    """Return the zoo folder to publish to.

    Args:
        to: a folder; by default the first folder of ``CPHLOC_ZOO``, else the shipped zoo.

    Raises:
        InputError: it is a URL.
    """
    if to is None:
        return next(folder for place in paths.zoos() if (folder := local_folder(place)) is not None)
    folder = local_folder(str(to))
    if folder is None:
        msg = f"{to}: publish to a folder, then copy it to the URL"
        raise InputError(msg)
    return folder


def most_bytes(zoo: Path) -> int | None:
    """Return the largest allowed size of weights: limited in the zoo that ships with cphloc, ``None`` in others."""
    if zoo.resolve() != paths.shipped("zoo").resolve():
        return None
    there = (path for path in zoo.glob(f"*/*/{WEIGHTS_FILE}") if not is_temporary(path.parent))
    held = sum(path.stat().st_size for path in there)
    return min(EACH_BYTES, ALL_BYTES - held)


def publish_problems(
    material: Material, because: str | None = None, sample_is_clean: bool = False, below_baseline: str | None = None
) -> list[str]:
    """Run every publish check and list the problems.

    Args:
        material: what `gather` read.
        because: reason to publish a version that is significantly worse than the one before.
        sample_is_clean: whether a person has looked at images that may have text burned in.
        below_baseline: reason to publish a version that is not above its baseline.
    """
    evaluation, run = material.evaluation, material.run
    problems = evaluation_problems(evaluation, material.split, material.rows) + material.about.problems()
    if not run.finished:
        problems.append(f"its training has not finished: run 'cphloc train --resume {run.folder}' first")
    trained = run.fold_folders if run.is_cross_validation else [run.folder]
    problems += origin_problems(material.facts, material.source, trained)
    if evaluation and not sample_is_clean:
        splits: tuple[Split, ...] = ("train", "val") if run.is_cross_validation else (SPLIT, "val")
        problems += burned_in_problems(case for split in splits for case in material.dataset.cases(split))
    if evaluation and run.is_cross_validation:
        problems += cross_validation_problems(run, evaluation)
        if material.tested:
            problems += memory_problems(run, material.tested, material.dataset, SPLIT)
    elif evaluation:
        problems += leak_refusals(material.dataset, evaluation.get("cases") or [], SPLIT)
        problems += memory_problems(run, evaluation, material.dataset, SPLIT)
    if not problems and not below_baseline:
        stated = evaluation["metrics"]
        headline = material.run.recipe.headline
        metric = headline if headline in stated else next(iter(stated))
        problems += baseline_problems(evaluation, metric, material.rows)
    if not problems and material.last is not None and not because:
        last = material.last
        rows = checked_path(last, CASES_FILE) if CASES_FILE in last.entry.files else None
        problems += regression_problems(evaluation["metrics"], material.rows, last.entry, rows)
    return problems


def _exists(folder: Path, zoo: Path) -> InputError:
    return InputError(f"{folder.parent.name}@{folder.name} exists in {zoo}; versions are immutable: choose a new one")


def _continue(folder: Path, zoo: Path, run: Run) -> Entry:
    """Finish publishing a version of this run that a kill has kept from the index; any other is refused.

    Raises:
        InputError: the version exists.
    """
    path = folder / ENTRY_FILE
    entry = Entry.parse(path.read_bytes(), str(path)) if path.is_file() else None
    if entry is None or entry.origin.run != run.facts.get("run", run.id):
        raise _exists(folder, zoo)
    indexed = zoo / INDEX_FILE
    rows = read_index(indexed) if indexed.is_file() else ()
    if any((row.name, row.version) == (entry.name, entry.version) for row in rows):
        msg = f"{_exists(folder, zoo)}. It was published from this run; if MLflow lacks it: cphloc zoo index {zoo}"
        raise InputError(msg)
    return _announce(entry, folder, zoo)


def _announce(entry: Entry, folder: Path, zoo: Path) -> Entry:
    """Name a version that is in its place in the index of the zoo and in MLflow; what fails is logged."""
    try:
        flush(folder.parent)
        flush(zoo)
    except OSError as error:
        _log.warning("%s is published, but a power cut may undo it: %s", entry, error)
    _index(entry, zoo)
    _register(entry, folder)
    return entry


def _index(entry: Entry, zoo: Path) -> None:
    """Write the index of the zoo; where that fails, warn: the entry is in its place already."""
    try:
        index_zoo(zoo)
    except (CphlocError, OSError) as error:
        _log.warning("%s is published but not in the index yet: %s; then run: cphloc zoo index %s", entry, error, zoo)


def _register(entry: Entry, folder: Path) -> None:
    """Register the entry with MLflow; where that fails, warn: ``cphloc zoo index`` registers it later."""
    from cphloc.publishing.register import register_entry

    try:
        register_entry(entry, folder)
    except (CphlocError, OSError) as error:
        _log.warning("%s is published but not registered with MLflow yet: %s", entry, error)
