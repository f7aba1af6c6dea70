"""The paired difference between an entry and its baseline, as it was stored or from the table of test cases."""

from __future__ import annotations

import math
from collections.abc import Mapping

from cphloc.errors import CphlocError
from cphloc.publishing.card import CASES_FILE
from cphloc.publishing.checks import read_rows
from cphloc.registry.metrics import is_signed
from cphloc.zoo.entries import Listing
from cphloc.zoo.measured import Metric
from cphloc.zoo.stored import checked_path


def paired_gain(found: Listing, name: str) -> Metric | None:
    """Return the difference of a metric, entry minus baseline, paired by case and resampled by patient.

    Args:
        found: a version of an entry.
        name: metric.

    Returns:
        the stored difference, else that of the values per case; ``None`` where the entry has neither.
    """
    stored = found.entry.baseline.paired.get(name)
    if stored is not None or CASES_FILE not in found.entry.files:
        return stored
    try:
        return _of_cases(read_rows(checked_path(found, CASES_FILE)), name)
    except (CphlocError, OSError, ValueError, KeyError):  # the table is missing, damaged or no table
        return None


def _of_cases(rows: Mapping[str, Mapping[str, str]], name: str) -> Metric | None:
    from cphloc.metrics.bootstrap import paired_difference

    of_baseline = f"{name}_baseline"
    measured = [row for row in rows.values() if name in row and of_baseline in row]
    if not measured:
        return None
    sizes = abs if is_signed(name) else float
    ours, theirs = ([sizes(float(row[column])) for row in measured] for column in (name, of_baseline))
    found = paired_difference(ours, theirs, groups=[row.get("patient", row["case"]) for row in measured])
    low, high = (None if math.isnan(end) else end for end in (found.low, found.high))
    value = None if math.isnan(found.value) else found.value
    return Metric(value=value, low=low, high=high, n=found.n, n_undefined=found.n_undefined)
