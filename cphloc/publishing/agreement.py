"""Compare the files of an entry with each other: what ``entry.yaml`` states, its recipe, table of cases and card."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cphloc.errors import CphlocError
from cphloc.metrics.bootstrap import Difference, Interval, interval, paired_difference
from cphloc.publishing.card import CASES_FILE, model_card
from cphloc.publishing.checks import read_rows
from cphloc.publishing.source import source_disagreements
from cphloc.publishing.verdict import VERDICTS
from cphloc.recipe.recipe import Recipe
from cphloc.registry.metrics import POOLED, is_signed
from cphloc.structures.split import OUT_OF_FOLD
from cphloc.zoo.agreement import recipe_disagreements
from cphloc.zoo.entries import Listing, list_entries
from cphloc.zoo.entry import Entry
from cphloc.zoo.measured import Metric
from cphloc.zoo.names import CARD_FILE, RECIPE_FILE
from cphloc.zoo.stored import stored_recipe

VALUE_TOLERANCE, END_TOLERANCE = 1e-6, 0.002
"""Largest difference of a stated metric, and of the ends of its interval, relative where they are above 1."""
MOST_RESAMPLED = 5_000
"""Of longer tables the means are computed again and the intervals are not, which would take minutes."""
MOST_VALUES = 100_000
"""Number of values (cases times metrics) of a table beyond which intervals are not computed again either."""

MOST_TABLE_BYTES = 300_000_000
"""Largest table of cases."""
MOST_ROW_BYTES = 100_000
"""Largest row of it, on average."""

_WORDED = ("Results", "Pictures", "Calibration", "Subgroups", "How to use", "How to reproduce")
_LATER = ("Calibration", "Subgroups")
"""Sections that cards of the earlier layout do not have."""
_NUMBER = re.compile(r"(?<![\w.])[-+]?\d[\d,]*(?:\.\d+)?(?!\w)")


class Disagreement(NamedTuple):
    """Two files of an entry that contradict each other: the file that contradicts ``entry.yaml``, and how."""

    file: str
    text: str


def disagreements(listing: Listing, recipe: Recipe) -> Iterator[Disagreement]:
    """Yield each way in which the files of an entry contradict each other; their hashes are not checked here.

    The metrics that are means over the cases are computed again from the table of cases, with their intervals, and so
    are those of the baseline and the paired differences where the table has them. Metrics that pool all cases, such as
    AP and AUC, are not in the table: ``cphloc verify --metrics`` measures them again.

    Args:
        listing: the entry.
        recipe: its stored recipe.
    """
    entry = listing.entry
    yield from (Disagreement(RECIPE_FILE, text) for text in recipe_disagreements(entry, recipe))
    yield from (Disagreement(RECIPE_FILE, text) for text in source_disagreements(entry, recipe))
    measured = ("train", "val") if entry.evaluation.split == OUT_OF_FOLD else (entry.evaluation.split,)
    held = sum(entry.data.splits.get(split, 0) for split in measured)
    if len(entry.evaluation.cases) > held:
        text = f"{len(entry.evaluation.cases)} cases are evaluated, but the data set is stated to have {held}"
        yield Disagreement("entry.yaml", text)
    yield from (Disagreement(CASES_FILE, text) for text in _of_table(listing))
    if isinstance(listing.place, Path) and entry.weights.file is not None:
        yield from (Disagreement(entry.weights.file, text) for text in _of_weights(entry, listing.weights_path()))
    if CARD_FILE in entry.files and (
        text := card_disagreement(entry, listing.read(CARD_FILE).decode(errors="replace"))
    ):
        yield Disagreement(CARD_FILE, text)


def zoo_disagreements(folder: str | Path) -> dict[str, str]:
    """Find the versions of a zoo folder whose files contradict each other: the first contradiction of each.

    Versions that need another cphloc are not checked.
    """
    listed = list_entries(all_versions=True, zoos=[str(folder)])
    found = {str(one): first_disagreement(one) for one in listed if not one.note.startswith("needs")}
    return {version: wrong for version, wrong in found.items() if wrong is not None}


def first_disagreement(listing: Listing) -> str | None:
    """Return the first way in which the files of an entry contradict each other; ``None`` where they do not."""
    try:
        wrong = next(disagreements(listing, stored_recipe(listing)), None)
    except CphlocError as error:
        wrong = Disagreement(RECIPE_FILE, str(error).splitlines()[0])
    return None if wrong is None else f"{wrong.file}: {wrong.text}"


def _of_weights(entry: Entry, path: Path) -> Iterator[str]:
    """Compare precision and number of parameters with the header of the weights, which also hold a few buffers."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            tensors = [file.get_slice(name) for name in file.keys()]  # noqa: SIM118  # it is no mapping
            kinds, elements = {one.get_dtype() for one in tensors}, sum(math.prod(one.get_shape()) for one in tensors)
    except (OSError, SafetensorError) as error:
        yield f"is not a safetensors file ({error})"
        return
    if ("F16" in kinds) != (entry.weights.precision == "float16"):
        yield f"entry.yaml states weights of {entry.weights.precision} but they are {', '.join(sorted(kinds))}"
    if not elements / 2 <= entry.size.parameters <= elements:
        yield f"entry.yaml states {entry.size.parameters:,} parameters but the weights hold {elements:,} numbers"


def _of_table(listing: Listing) -> list[str]:
    """Compare the table of cases; a table that cannot be read is one that does not agree."""
    if not listing.entry.evaluation.cases:
        return []
    if CASES_FILE not in listing.entry.files:
        return ["is missing, so nothing but the card states where the metrics come from"]
    size = listing.entry.files[CASES_FILE].bytes
    most = min(MOST_TABLE_BYTES, MOST_ROW_BYTES * (10 + len(listing.entry.evaluation.cases)))
    if size > most:
        return [f"has {size:,} bytes, {most:,} are the most for its cases"]
    try:
        return list(table_disagreements(listing.entry, read_rows(listing.path(CASES_FILE))))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        return [f"is not a table of cases ({error})"]


def table_disagreements(entry: Entry, rows: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """Yield each metric of an entry that its table of cases does not give, and cases that only one of them has.

    Args:
        entry: the entry.
        rows: ``cases.csv`` by case, from `cphloc.publishing.checks.read_rows`.
    """
    if rows.keys() != set(entry.evaluation.cases):
        yield f"it has {len(rows)} cases, which are not the {len(entry.evaluation.cases)} that entry.yaml lists"
        return
    ours, other = entry.evaluation, entry.baseline
    own, beneath = _flat(ours.metrics, ours.per_class), _flat(other.metrics, other.per_class, "_baseline")
    table = _Table(rows, len(own | beneath) + len(other.paired))
    compared = {name: (metric, table.interval(name)) for name, metric in (own | beneath).items()}
    compared |= {f"a paired difference of {name}": (gain, table.gain(name)) for name, gain in other.paired.items()}
    for name, (stated, measured) in compared.items():
        if measured is not None and not _same(stated, measured, table.resampled):
            yield f"entry.yaml states {name} {_text(stated)} but the cases give {_text(measured)}"
    beside = (
        {**other.metrics, **other.paired} if other.paired else {}
    )  # earlier entries have no columns of the baseline
    needed = {**ours.metrics, **_flat(beside, {}, "_baseline")}
    if absent := [name for name, metric in needed.items() if metric.n and not table.may_lack(name)]:
        yield f"entry.yaml states {', '.join(absent[:5])}, of which it has no column"


def card_disagreement(entry: Entry, card: str) -> str:
    """Compare a card with the one that would be written now.

    Cards of earlier versions of cphloc are worded otherwise: in sections that cphloc words itself, sentences may differ
    where their numbers and their verdict on the baseline do not. Cards that do not begin with the verdict are also laid
    out otherwise: each of their numbers must be on today's card, and the other sections must be equal.

    Returns:
        the first line that contradicts the entry; empty where none does.
    """
    now = model_card(entry)
    expected, stated = now.splitlines(), card.splitlines()
    if not any(line.startswith(VERDICTS) for line in stated[:4]):
        return _earlier_disagreement(now, card)
    section = ""
    for number, (line, ours) in enumerate(zip(stated, expected, strict=False), 1):
        section = ours.removeprefix("## ") if ours.startswith("## ") else section
        if line != ours and not (section in _WORDED and _same_facts(line, ours)):
            return f"line {number} is '{line[:80]}', but entry.yaml gives '{ours[:80]}'"
    if len(stated) != len(expected):
        return f"it has {len(stated)} lines, but entry.yaml gives {len(expected)}"
    return ""


def _earlier_disagreement(now: str, card: str) -> str:
    """Compare a card of the earlier layout, which had its verdict on the baseline among the results."""
    ours, stated = _sections(now), _sections(card)
    titles = [title for title in ours if title not in (*_WORDED, "", *_LATER)]
    for title in titles:
        lines = zip_longest(stated.get(title, []), ours[title], fillvalue="")
        if differing := next(((a, b) for a, b in lines if a != b), None):
            return f"{title or 'the top'}: '{differing[0][:80]}', but entry.yaml gives '{differing[1][:80]}'"
    if unknown := sorted(set(stated) - set(ours)):
        return f"it has a section '{unknown[0]}', which entry.yaml does not give"
    if _first_line(card) != _first_line(now):
        return f"it begins with '{_first_line(card)[:80]}', but entry.yaml gives '{_first_line(now)[:80]}'"
    known = set(_NUMBER.findall(now))
    if other := [number for number in _NUMBER.findall(card) if number not in known]:
        return f"it states {other[0]}, which entry.yaml does not"
    if ("does not beat" in card) != ("does not beat" in now):
        return "it states another verdict on the baseline than entry.yaml"
    return ""


def _sections(card: str) -> dict[str, list[str]]:
    """Split a card into the lines of its sections by title; what comes before them has an empty title."""
    parts = re.split(r"^## ", card, flags=re.MULTILINE)
    bodies = (part.partition("\n") for part in parts[1:])
    return {"": parts[0].splitlines(), **{title: body.strip().splitlines() for title, _, body in bodies}}


def _first_line(card: str) -> str:
    return card.partition("\n")[0]


def _same_facts(line: str, ours: str) -> bool:
    """Return whether two sentences or rows of a table state the same numbers and verdict."""
    if line.startswith(("|", "#")) or ours.startswith(("|", "#")):
        return _cells(line) == _cells(ours)
    same_verdict = ("does not beat" in line) == ("does not beat" in ours)
    return bool(line) == bool(ours) and same_verdict and _NUMBER.findall(line) == _NUMBER.findall(ours)


def _cells(row: str) -> list[str]:
    """Split a row of a table; earlier cards leave cells empty that now say no."""
    return ["" if cell.strip() == "no" else cell.strip() for cell in row.split("|")]


class _Table:
    """Scores of the cases by column.

    Args:
        rows: ``cases.csv`` by case.
        metrics: number of metrics that are compared.
    """

    def __init__(self, rows: Mapping[str, Mapping[str, str]], metrics: int) -> None:
        self.rows = list(rows.values())
        self.resampled = len(rows) <= MOST_RESAMPLED and len(rows) * metrics <= MOST_VALUES
        self.columns = {column for row in self.rows for column in row}
        self.patients = [row.get("patient", row["case"]) for row in self.rows]

    def interval(self, column: str) -> Interval | None:
        """Compute the mean of a column with its interval; ``None`` where the table has no such column."""
        return interval(self._values(column), self.patients, n=self._resamples) if column in self.columns else None

    def gain(self, metric: str) -> Difference | None:
        """Compute the paired difference of a metric from the baseline's; ``None`` where a column is missing."""
        columns = metric, f"{metric}_baseline"
        if not self.columns.issuperset(columns):
            return None
        values = [self._values(column) for column in columns]
        values = [np.abs(one) for one in values] if is_signed(metric) else values
        return paired_difference(*values, groups=self.patients, n=self._resamples)

    @property
    def _resamples(self) -> int:
        return 2000 if self.resampled else 1

    def may_lack(self, column: str) -> bool:
        """Return True for a column that the table has, and for one of a metric that has no value per case."""
        return column in self.columns or column.removesuffix("_baseline") in POOLED

    def _values(self, column: str) -> np.ndarray:
        return np.array([float(row.get(column, "nan")) for row in self.rows])


def _flat(
    metrics: Mapping[str, Metric], per_class: Mapping[str, Mapping[str, Metric]], suffix: str = ""
) -> dict[str, Metric]:
    """Return every metric by the column of the table that holds it."""
    named = {f"{name}{suffix}": metric for name, metric in metrics.items()}
    return named | {
        f"{name}/{of_class}{suffix}": metric for of_class, table in per_class.items() for name, metric in table.items()
    }


def _same(stated: Metric, measured: Interval | Difference, resampled: bool) -> bool:
    if stated.n != measured.n or (stated.value is None) != math.isnan(measured.value):
        return False
    pairs: Sequence[tuple[float | None, float, float]]
    pairs = [(stated.value, measured.value, VALUE_TOLERANCE)]
    if resampled:
        pairs += [(stated.low, measured.low, END_TOLERANCE), (stated.high, measured.high, END_TOLERANCE)]
    return all(_close(one, other, tolerance) for one, other, tolerance in pairs)


def _close(stated: float | None, measured: float, tolerance: float) -> bool:
    if stated is None or math.isnan(measured):
        return stated is None and math.isnan(measured)
    return abs(stated - measured) <= tolerance * max(1.0, abs(measured))


def _text(metric: Metric | Interval | Difference) -> str:
    ends = (metric.value, metric.low, metric.high)
    value, low, high = ("none" if end is None or math.isnan(end) else f"{end:.4f}" for end in ends)
    return f"{value} [{low}, {high}] of {metric.n} cases"
