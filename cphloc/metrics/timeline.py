"""Order the scans of one patient in time, by the dates of their files or by stated days."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from cphloc.errors import InputError
from cphloc.structures.volume import Scan

MOST_DAYS_APART = 1.0
"""Largest difference between the stated days and the dates of the files."""


def timeline(
    names: Sequence[str], scans: Sequence[Scan], stated_days: Sequence[float] | None = None
) -> tuple[list[int], list[float]]:
    """Order scans by their dates, or check that stated days agree with them.

    Dates that are all the same, as anonymization leaves them, count as unknown.

    Args:
        names: of the scans, for messages.
        scans: what each file states about its patient and date.
        stated_days: days from the first scan to each later one; ``None`` takes the dates of the files, in any order.

    Returns:
        indices of the scans in the order of time, and the day of each, from 0.

    Raises:
        InputError: the scans are of several patients, their dates contradict the days or the order, or neither days
            nor dates are known.

    >>> from datetime import date
    >>> timeline("ab", [Scan(date=date(2024, 6, 1)), Scan(date=date(2024, 1, 1))])
    ([1, 0], [0.0, 152.0])
    """
    _check_patients(names, scans)
    dates = [scan.date for scan in scans]
    known = [day for day in dates if day is not None]
    dated = len(known) == len(scans) and len(set(known)) > 1
    if stated_days is None:
        if not dated:
            undated = [name for name, day in zip(names, dates, strict=True) if day is None]
            why = f"{undated[0]} states no date" if undated else f"all scans are of {known[0]}"
            msg = f"{why}; state the days from the first scan to each later one with --days"
            raise InputError(msg)
        order = sorted(range(len(scans)), key=lambda k: known[k])
        days = [float((known[k] - known[order[0]]).days) for k in order]
        for (one, other), (before, after) in zip(pairwise(order), pairwise(days), strict=True):
            if before == after:
                msg = f"{names[one]} and {names[other]} are both of {known[one]}; pass one scan for each date"
                raise InputError(msg)
        return order, days
    days = [0.0, *map(float, stated_days)]
    if len(days) != len(scans):
        msg = (
            f"state one day in --days for each scan after the first: {len(scans) - 1} later scans, {len(days) - 1} days"
        )
        raise InputError(msg)
    if dated:
        _check_days(names, known, days)
    return list(range(len(scans))), days


def _check_patients(names: Sequence[str], scans: Sequence[Scan]) -> None:
    known = [(name, scan.patient) for name, scan in zip(names, scans, strict=True) if scan.patient is not None]
    for name, patient in known[1:]:
        if patient != known[0][1]:
            msg = (
                f"{name} is of patient '{patient}' and {known[0][0]} of patient '{known[0][1]}' by their PatientID; "
                "pass scans of one patient"
            )
            raise InputError(msg)


def _check_days(names: Sequence[str], dates: Sequence, days: Sequence[float]) -> None:
    """Raise an error where the dates of the files contradict the order of the scans or the stated days."""
    for k in range(1, len(dates)):
        if dates[k] <= dates[k - 1]:
            msg = (
                f"{names[k]} is dated {dates[k]}, not after {names[k - 1]}, dated {dates[k - 1]}; pass the scans in "
                "order, or leave out --days to order them by date"
            )
            raise InputError(msg)
        apart = (dates[k] - dates[0]).days
        if abs(apart - days[k]) > MOST_DAYS_APART:
            msg = (
                f"{names[k]} is dated {apart} days after {names[0]}, but --days states {days[k]:g}; leave out --days "
                "to take the dates, or correct it"
            )
            raise InputError(msg)
