"""Register published entries with MLflow, to compare them in its UI."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Container
from pathlib import Path

from cphloc.config import jsonio
from cphloc.errors import DataError
from cphloc.metrics.bootstrap import Interval
from cphloc.metrics.summary import tracking_metrics
from cphloc.tracking.model_registry import PublishedVersion
from cphloc.tracking.model_registry import register_entry as register_version
from cphloc.tracking.record import flat
from cphloc.zoo.entries import Listing, list_entries
from cphloc.zoo.entry import Entry, File
from cphloc.zoo.inside import file_inside, lies_in
from cphloc.zoo.measured import Evaluation, Metric, Tested
from cphloc.zoo.names import ENTRY_FILE, UNPINNED
from cphloc.zoo.served import PARAMETERS

_PARAMS = ("name", "version", "task", "dims", "modality", "classes", "channels", "spacing_mm", "intensity", "data")


def register_entry(entry: Entry, folder: Path) -> str:
    """Register a version: a summary run in the zoo's experiment and a version in the model registry.

    Args:
        entry: the entry.
        folder: its files.

    Returns:
        id of the summary run.

    Raises:
        DataError: a file leads out of the folder, or is not the one that was published.
        CphlocError: MLflow cannot be reached.
    """
    facts = entry.name, entry.version, entry.summary
    with tempfile.TemporaryDirectory() as aside:
        files = _copied(entry, folder, Path(aside) / entry.version)
        return register_version(PublishedVersion(*facts, _params(entry), _metrics(entry), files, PARAMETERS))


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
        CphlocError: MLflow cannot be reached.
    """
    folder = Path(folder)
    here = list_entries(all_versions=True, zoos=[str(folder)])
    listed = [e for e in here if lies_in(folder, Path(e.place)) and not e.note and str(e) not in without]
    for listing in reversed(listed):  # MLflow counts versions in the order they come, and the last one is `latest`
        register_entry(listing.entry, Path(listing.place))
    return [str(listing) for listing in reversed(listed)]


def _params(entry: Entry) -> dict[str, str]:
    plain = entry.model_dump(mode="json")
    params = flat({key: plain[key] for key in _PARAMS} | plain["origin"])
    return {**params, "recipe_sha256": entry.files["recipe.yaml"].sha256}


def _metrics(entry: Entry) -> dict[str, float]:
    metrics = _tracked(entry.evaluation, entry.evaluation.split)
    metrics |= {} if entry.tested is None else _tracked(entry.tested, "test")
    metrics |= {"speed/ms_per_case": entry.speed.ms_per_case}
    if entry.size.peak_ram_mb is not None:
        metrics |= {"size/peak_ram_mb": entry.size.peak_ram_mb}
    return {**metrics, "size/params_m": entry.size.parameters / 1e6}


def _tracked(measured: Evaluation | Tested, split: str) -> dict[str, float]:
    """Metrics of a split by MLflow key, of all classes and of each."""
    tables = {"": measured.metrics, **{f"/{c}": t for c, t in measured.per_class.items()}}
    every = {f"{name}{of_class}": m for of_class, table in tables.items() for name, m in table.items()}
    return tracking_metrics({name: _with_interval(metric) for name, metric in every.items()}, split)


def _with_interval(metric: Metric) -> Interval:
    value, low, high = map(jsonio.number, (metric.value, metric.low, metric.high))
    return Interval(value, low, high, metric.n, metric.n_undefined)
