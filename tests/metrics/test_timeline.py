"""Scans of a patient in the order of their dates, or a refusal."""

from __future__ import annotations

from datetime import date

import pytest

from cphloc.errors import InputError
from cphloc.metrics.timeline import timeline
from cphloc.structures.volume import Scan

MAY, JUNE, AUGUST = date(2024, 5, 2), date(2024, 6, 1), date(2024, 8, 30)
NAMES = ["one", "two", "three"]


def scans(*dates, patients=("p", "p", "p")):
    return [Scan(date=day, patient=patient) for day, patient in zip(dates, patients, strict=False)]


def test_scans_are_ordered_by_their_dates():
    assert timeline(NAMES, scans(AUGUST, MAY, JUNE)) == ([1, 2, 0], [0.0, 30.0, 120.0])


@pytest.mark.parametrize("dates", [(None, None), (MAY, None), (MAY, MAY), (MAY, JUNE)])
def test_stated_days_are_taken_where_no_date_contradicts_them(dates):
    assert timeline(NAMES[:2], scans(*dates), [30]) == ([0, 1], [0.0, 30.0])


@pytest.mark.parametrize(
    ("dates", "days", "reason"),
    [
        ((JUNE, MAY), [30], "two is dated 2024-05-02, not after one, dated 2024-06-01"),
        ((MAY, JUNE), [90], "two is dated 30 days after one, but --days states 90"),
        ((MAY, AUGUST, JUNE), [120, 150], "three is dated 2024-06-01, not after two"),
        ((None, None), None, "one states no date; state the days"),
        ((MAY, None), None, "two states no date; state the days"),
        ((MAY, MAY), None, "all scans are of 2024-05-02; state the days"),
        ((MAY, JUNE, JUNE), None, "two and three are both of 2024-06-01"),
        ((MAY, JUNE), [30, 60], "1 later scans, 2 days"),
    ],
)
def test_dates_that_say_something_else_are_refused(dates, days, reason):
    with pytest.raises(InputError, match=reason) as error:
        timeline(NAMES[: len(dates)], scans(*dates), days)
    assert "\n" not in str(error.value)


def test_scans_of_two_patients_are_refused():
    with pytest.raises(InputError, match="two is of patient 'q' and one of patient 'p'"):
        timeline(NAMES, scans(MAY, JUNE, AUGUST, patients=("p", "q", "p")))
    assert timeline(NAMES[:2], scans(MAY, JUNE, patients=("p", None)))[1] == [0.0, 30.0]
