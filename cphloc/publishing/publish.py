"""Freeze a run as a version of an entry: complete, honest and checked, or not at all."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cphloc import paths
from cphloc.errors import CphlocError, InputError
from cphloc.publishing.card import CASES_FILE
from cphloc.publishing.checks import fact_refusals, leak_refusals, metric_refusals, worse_refusal
from cphloc.publishing.material import SPLIT, Material, gather
from cphloc.zoo.entries import local_folder
from cphloc.zoo.entry import Entry
from cphloc.zoo.index import index_zoo
from cphloc.zoo.names import WEIGHTS_FILE

if TYPE_CHECKING:
    from cphloc.tracking.run import Run

EACH_BYTES, ALL_BYTES = 8_000_000, 32_000_000
"""Weights that ship with cphloc: of one version, and of all."""

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
) -> Entry:
    """Publish a run as ``name`` at ``version``.

    Args:
        run: a finished and evaluated run, its folder or its id.
        name: of the entry.
        version: ``1.2.0``; one that exists is never overwritten.
        to: zoo folder; by default the first folder of ``CPHLOC_ZOO``, else the shipped zoo.
        because: why to publish although it is significantly worse than the version before; kept in the entry.
        about: summary, intended_use, limits and changelog, as a mapping or a YAML file; by default the recipe's own,
            then what the version before said.
        sample: id of the test case to ship as sample; by default the smallest in which something is found.
        urls: further places where the weights will lie; weights that are too large to ship lie only there, and in the
            cache until they are uploaded.

    Returns:
        the new entry.

    Raises:
        InputError: the version exists, or the run may not be published; every reason is named. Or its weights are too
            large for the shipped zoo.
        CphlocError: the zoo cannot be written.
    """
    from cphloc.publishing.freeze import freeze
    from cphloc.tracking.run import Run

    zoo = zoo_to_write(to)
    folder = zoo / name / version
    if folder.exists():
        msg = f"{name}@{version} exists in {zoo}; versions are immutable: choose a new one"
        raise InputError(msg)
    material = gather(Run.open(run), name, zoo, about)
    said = refusals(material, because)
    if said:
        lines = [f"{material.run.folder} cannot be published as {name}@{version}:", *(f"  - {s}" for s in said)]
        raise InputError("\n".join(lines))
    stage = folder.with_name(f".{version}.{secrets.token_hex(4)}")
    try:
        stage.mkdir(parents=True)
        entry = freeze(stage, material, name, version, because, sample, urls, most_bytes(zoo))
        os.rename(stage, folder)
        index_zoo(zoo)
    except OSError as error:
        msg = f"{folder}: cannot be written ({error.strerror or error}); nothing was published"
        raise CphlocError(msg) from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)
        with suppress(OSError):  # holds versions, or was never made
            folder.parent.rmdir()
    _tell_mlflow(entry, folder)
    return entry


def zoo_to_write(to: str | Path | None = None) -> Path:
    """The zoo folder to publish to.

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
    """How large weights in a zoo may be: the shipped one travels with every copy of cphloc, others are not limited."""
    if zoo.resolve() != paths.shipped("zoo").resolve():
        return None
    held = sum(path.stat().st_size for path in zoo.glob(f"*/*/{WEIGHTS_FILE}"))
    return min(EACH_BYTES, ALL_BYTES - held)


def refusals(material: Material, because: str | None = None) -> list[str]:
    """Every reason why the run may not be published; empty where it may.

    Args:
        material: what `gather` found.
        because: why a version that is worse is wanted all the same.
    """
    evaluation = material.evaluation
    said = metric_refusals(evaluation, SPLIT, material.rows) + material.about.refusals()
    said += fact_refusals(material.facts, material.source, material.run.folder)
    if evaluation is not None:
        said += leak_refusals(material.dataset, evaluation.get("cases") or [], SPLIT)
    if not said and material.last is not None and not because:
        last = material.last
        rows = last.path(CASES_FILE) if CASES_FILE in last.entry.files else None
        said += worse_refusal(evaluation["metrics"], material.rows, last.entry, rows)
    return said


def _tell_mlflow(entry: Entry, folder: Path) -> None:
    """An entry stands without MLflow, and ``cphloc zoo index`` can tell it later."""
    from cphloc.publishing.register import register_entry

    try:
        register_entry(entry, folder)
    except CphlocError as error:
        _log.warning("%s is published but MLflow does not know it yet: %s", entry, error)
