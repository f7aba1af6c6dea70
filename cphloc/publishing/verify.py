"""Check that an entry's files, sample prediction and metrics are those that were published, and agree."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cphloc.errors import CphlocError, DataError
from cphloc.publishing import sample as samples
from cphloc.publishing.agreement import disagreements
from cphloc.structures.split import OUT_OF_FOLD, SPLITS
from cphloc.zoo.entries import Listing
from cphloc.zoo.entry import File
from cphloc.zoo.inside import files_below
from cphloc.zoo.measured import Metric, as_undefined, is_undefined
from cphloc.zoo.names import ENTRY_FILE, RECIPE_FILE, SIGNATURE_FILE, UNPINNED
from cphloc.zoo.resolve import resolve_entry
from cphloc.zoo.signature import Signer, check_signature, read_trusted
from cphloc.zoo.stored import stored_recipe

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
        published: the number on the card, of a metric.
        measured: the number that was measured again; ``None`` where it is undefined.
    """

    what: str
    found: str
    right: bool
    published: float | None = None
    measured: float | None = None


def verify(spec: str | Path, metrics: bool = False, trust: str | Path | None = None) -> list[Check]:
    """Check an entry's files, that they agree, its sample prediction and, if asked, every number of its card.

    Args:
        spec: see `cphloc.zoo.resolve.resolve_entry`.
        metrics: evaluate the whole split again, which needs the data set and time. A number may differ by
            `METRIC_TOLERANCE`: 0.002, or 0.2 % where it is above 1.
        trust: file of public keys; the entry must be signed by one of them, see `cphloc.zoo.signature`.

    Returns:
        every check; the entry is as published where all are ``right``.

    Raises:
        NotFoundError: no such entry or version, or no file of keys.
        InputError: the file contains no ed25519 key.
    """
    trusted = None if trust is None else read_trusted(trust)
    listing = resolve_entry(spec)
    checks = [*_file_checks(listing), *_signature_checks(listing, trusted)]
    if all(check.right for check in checks):
        checks += _agreement_checks(listing)
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
    with _named(files) as named:
        result = localizer.predict(samples.source_of(facts, named), spacing_mm=facts["spacing_mm"])
    return samples.differences(facts, mask, result)


@contextmanager
def _named(files: Mapping[str, Path]) -> Iterator[dict[str, Path]]:
    """Give the paths of files that have their names: in the cache, where downloads are, a file has its hash as name."""
    if all(path.name == Path(name).name for name, path in files.items()):
        yield dict(files)
        return
    with tempfile.TemporaryDirectory() as folder:
        named = {name: Path(folder) / name for name in files}
        for name, path in named.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(files[name], path)
        yield named


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
        right = (found.sha256, found.bytes) == (expected.sha256, expected.bytes)
        text = f"sha256 {found.sha256}"
        if not right:
            text += f" of {found.bytes:,} bytes, {expected.sha256} of {expected.bytes:,} bytes was published"
        checks.append(Check(file, text, right))
    if isinstance(listing.place, Path):
        extra = files_below(listing.place) - {*pinned, *UNPINNED}
        checks += [Check(file, "is in the folder but not in the entry", False) for file in sorted(extra)]
    return checks


def _signature_checks(listing: Listing, trusted: list[Signer] | None) -> list[Check]:
    """Check who signed an entry; without trusted keys, only remark that there is a signature."""
    if trusted is None:
        signed = isinstance(listing.place, Path) and (listing.place / SIGNATURE_FILE).is_file()
        return [Check(SIGNATURE_FILE, "not checked: give --trust FILE of public keys", True)] if signed else []
    try:
        return [Check(SIGNATURE_FILE, f"signed by {check_signature(listing, trusted)}", True)]
    except CphlocError as error:
        return [Check(SIGNATURE_FILE, str(error), False)]


def _agreement_checks(listing: Listing) -> list[Check]:
    try:
        wrong = list(disagreements(listing, stored_recipe(listing)))
    except CphlocError as error:
        return [Check(RECIPE_FILE, str(error), False)]
    return [Check(file, text, False) for file, text in wrong] or [
        Check("agreement", "entry.yaml, recipe, table of cases and card state the same", True)
    ]


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
    checks = _data_checks(listing, localizer)
    if published.split == OUT_OF_FOLD:
        return [*checks, Check("metrics", "out of fold, by single networks: the ensemble cannot repeat them", True)]
    again = evaluate(localizer, split=published.split).facts
    checks.append(_cases_check(published.cases, again["cases"]))
    for prefix, before, now in (("", published, again), ("baseline ", baseline, again["baseline"])):
        tables = {"": (before.metrics, now["metrics"])}
        tables |= {f"{name}: ": (table, now["per_class"].get(name, {})) for name, table in before.per_class.items()}
        for of, (stated, measured) in tables.items():
            checks += [_metric_check(f"{prefix}{of}{name}", m, measured.get(name)) for name, m in stated.items()]
    if (calibration := listing.entry.calibration) is not None:
        before = (again["calibration"] or {}).get("ece_before")
        checks.append(_metric_check("calibration error before", calibration.ece_before, before))
    return checks


def _data_checks(listing: Listing, localizer: Localizer) -> list[Check]:
    """Compare the data set with the hashes that the entry keeps; earlier entries keep none."""
    from cphloc.data.pipeline.pipeline import open_dataset
    from cphloc.data.pipeline.seen import contents_of
    from cphloc.evaluation.unseen import published_data

    if (seen := published_data(listing)) is None:
        return []
    dataset = open_dataset(localizer.recipe.data, localizer.recipe.dims)
    changes = seen.changed_contents(contents_of(dataset, SPLITS))
    return [Check("data", "; ".join(changes) or "the cases are those that were published", not changes)]


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
    return Check(name, shown, right, published.value, again["value"])


def _close(before: float | None, now: float | None) -> bool:
    if before is None or now is None:
        return before is now
    return abs(before - now) <= METRIC_TOLERANCE * max(1.0, abs(before))
