"""Find the patients of a data set in the names of its cases, and a seed that divides them well."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from cphloc.data.dataset import hashed_split

_VISITS = [
    *("visit", "v", "session", "ses", "scan", "timepoint", "tp", "time", "slice", "sl", "frame", "day", "week"),
    *("month", "year", "followup", "fu", "series", "study", "img", "image"),
]
_PATIENTS = ["patient", "pat", "pt", "p", "subject", "subj", "sub", "s", "case"]
PATTERNS = (
    *(rf"(.+?)[_-](?i:{word})[_-]?\d+" for word in _VISITS),
    *(rf"((?i:{word})[_-]?\d+)[_-]" for word in _PATIENTS),
    r"(.+)[_-](?i:left|right|l|r)$",
)
"""Regular expressions whose first group is the patient in names such as p017_visit2, sub-03_T1w and hip12_left."""


def find_pattern(names: Sequence[str]) -> str | None:
    """Return the first of `PATTERNS` that finds the patients for sure; ``None`` where none does.

    It is sure where it matches every name, and finds several patients, of whom at least one has several cases.

    >>> find_pattern(["p017_visit1", "p017_visit2", "p018_visit1"]), find_pattern(["a_1", "a_2", "b_1"])
    ('(.+?)[_-](?i:visit)[_-]?\\\\d+', None)
    """
    for pattern in PATTERNS:
        found = [re.match(pattern, name) for name in names]
        patients = Counter(match[1] for match in found if match)
        if all(found) and 1 < len(patients) < len(names):
            return pattern
    return None


def choose_seed(patients: Sequence[str], val: float, test: float) -> int | None:
    """Return the least seed of `hashed_split` with about the wanted number of patients in every split.

    Args:
        patients: the patients, each once.
        val: wanted share of the validation split.
        test: wanted share of the test split.

    Returns:
        the seed; ``None`` where no split can get the wanted number, as of one patient.
    """
    wanted = {"val": max(val * len(patients), val > 0), "test": max(test * len(patients), test > 0)}
    for seed in range(1000):
        count = Counter(hashed_split(patient, val, test, seed) for patient in patients)
        near = all(abs(count[split] - number) <= max(0.5, 0.2 * number) for split, number in wanted.items())
        if near and all(count[split] for split, number in wanted.items() if number) and count["train"]:
            return seed
    return None
