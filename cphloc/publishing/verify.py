"""Check that an entry's files, sample prediction and metrics are those that were published."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cphloc.errors import CphlocError, DataError
from cphloc.publishing import sample as samples
from cphloc.zoo.entries import Listing
from cphloc.zoo.entry import File, Metric, as_undefined, is_undefined
from cphloc.zoo.inside import files_below
from cphloc.zoo.names import ENTRY_FILE
from cphloc.zoo.resolve import resolve_entry

if TYPE_CHECKING:
    from cphloc.inference.localizer import Localizer

METRIC_TOLERANCE = 0.002
"""Largest allowed difference from a published metric, relative where it is above 1; processors round differently."""


@dataclass(frozen=True)
class Check:
    """Result of one check.

    Args:
        what: the file, ``sample``, or the name of a metric.
        found: its current state, as text.
        right: whether that is as published.
    """

    what: str
    found: str
    right: bool


def verify(spec: str | Path, metrics: bool = False) -> list[Check]:
    """Check an entry's files, its sample prediction and, if asked, every number of its card.

    Args:
        spec: see `cphloc.zoo.resolve.resolve_entry`.
        metrics: evaluate the whole split again, which needs the data set and time. A number may differ by
            `METRIC_TOLERANCE`: 0.002, or 0.2 % where it is above 1.

    Returns:
        every check; the entry is as published where all are ``right``.

    Raises:
        NotFoundError: no such entry or version.
    """
    listing = resolve_entry(spec)
    checks = _file_checks(listing)
    if all(check.right for check in checks):
        checks += _model_checks(listing, metrics)
    return checks


def check_sample(listing: Listing, localizer: Localizer) -> list[str]:
    """Predict an entry's sample and list the differences from the expected prediction.

    Args:
        listing: the entry.
        localizer: its model.

    Raises:
        DataError: the entry has no sample, or it cannot be read.
    """
    folder = samples.SAMPLE_FOLDER
    files = {
        file.removeprefix(f"{folder}/"): listing.path(file)
        for file in listing.entry.files
        if file.startswith(f"{folder}/")
    }
    if samples.EXPECTED_FILE not in files:
        msg = f"{listing} has no sample"
        raise DataError(msg)
    facts, mask = samples.read_expected(files[samples.EXPECTED_FILE], files.get(samples.MASK_FILE))
    result = localizer.predict(samples.source_of(facts, files), spacing_mm=facts["spacing_mm"])
    return samples.differences(facts, mask, result)


def _file_checks(listing: Listing) -> list[Check]:
    entry = listing.entry
    pinned: dict[str, File] = {**entry.files, entry.weights.file or "weights": entry.weights}
    checks = [Check(ENTRY_FILE, f"{entry}", True)]
    for file, expected in sorted(pinned.items()):
        try:
            path = listing.weights_path() if expected is entry.weights else listing.path(file)
            found = File.of(path)
        except (CphlocError, OSError) as error:
            checks.append(Check(file, f"cannot be read: {error}", False))
            continue
        right = found.sha256 == expected.sha256
        text = f"sha256 {found.sha256}" + ("" if right else f", {expected.sha256} was published")
        checks.append(Check(file, text, right))
    if isinstance(listing.place, Path):
        extra = files_below(listing.place) - {*pinned, ENTRY_FILE}
        checks += [Check(file, "is in the folder but not in the entry", False) for file in sorted(extra)]
    return checks


def _model_checks(listing: Listing, metrics: bool) -> list[Check]:
    from cphloc.zoo.load import open_listing

    try:
        localizer = open_listing(listing)
        differing = check_sample(listing, localizer)
    except CphlocError as error:
        return [Check("sample", str(error), False)]
    checks = [Check("sample", "; ".join(differing) or "predicted as published", not differing)]
    return checks + (_metric_checks(listing, localizer) if metrics else [])


def _metric_checks(listing: Listing, localizer: Localizer) -> list[Check]:
    """Evaluate again and compare every metric of the model, of the baseline, and of each class."""
    from cphloc.evaluation.evaluate import evaluate

    published, baseline = listing.entry.evaluation, listing.entry.baseline
    again = evaluate(localizer, split=published.split).facts
    checks = [_cases_check(published.cases, again["cases"])]
    for prefix, before, now in (("", published, again), ("baseline ", baseline, again["baseline"])):
        tables = {"": (before.metrics, now["metrics"])}
        tables |= {f"{name}: ": (table, now["per_class"].get(name, {})) for name, table in before.per_class.items()}
        for of, (stated, measured) in tables.items():
            checks += [_metric_check(f"{prefix}{of}{name}", m, measured.get(name)) for name, m in stated.items()]
    if (calibration := listing.entry.calibration) is not None:
        before = (again["calibration"] or {}).get("ece_before")
        checks.append(_metric_check("calibration error before", calibration.ece_before, before))
    return checks


def _cases_check(published: list[str], again: list[str]) -> Check:
    same = sorted(published) == sorted(again)
    return Check("cases", f"{len(again)} cases, {len(published)} were published", same)


def _metric_check(name: str, published: Metric, again: Any) -> Check:
    if again is None:
        return Check(name, "was not measured again", False)
    again = as_undefined(again) if is_undefined(again) else again
    pairs = {key: (getattr(published, key), again[key]) for key in ("value", "low", "high")}
    right = published.n == again["n"] and all(_close(before, now) for before, now in pairs.values())
    shown = ", ".join(f"{key} {now} ({before} published)" for key, (before, now) in pairs.items())
    return Check(name, shown, right)


def _close(before: float | None, now: float | None) -> bool:
    if before is None or now is None:
        return before is now
    return abs(before - now) <= METRIC_TOLERANCE * max(1.0, abs(before))
