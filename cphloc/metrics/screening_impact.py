"""What a model would change in a screening programme, way by way, and a figure of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cphloc.errors import InputError
from cphloc.metrics.screening import Funnel, OperatingPoint, apply_ai, funnel, guide_biopsy
from cphloc.paths import atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MODES = {
    "triage": "triage: the reader sees only whom the model flags",
    "second_reader_or": "second reader: recalled if either says so",
    "second_reader_and": "second reader: recalled if both say so",
    "recall_arbitration": "second reader: a further reader settles disagreement",
}
"""Ways of reading together, as `apply_ai` names them, in words."""


@dataclass(frozen=True)
class Way:
    """One way of screening.

    Args:
        name: in words.
        funnel: what it does to the people screened.
        reads: human reads in all.
        needs_location: whether it works only if the model also says where.
    """

    name: str
    funnel: Funnel
    reads: float
    needs_location: bool = False


def programme(screened: float, cancers: float, recalled: float, biopsied: float, found: float) -> Funnel:
    """The funnel of a programme from its yearly counts.

    Args:
        screened: people.
        cancers: among them, found or missed.
        recalled: people called back, the found cancers among them.
        biopsied: of the recalled, the found cancers among them.
        found: cancers recalled.

    Raises:
        InputError: counts that contradict each other.

    >>> programme(1000, 6, 100, 20, 5).false_negative
    1
    """
    if not 0 <= found <= min(cancers, biopsied) or not biopsied <= recalled <= screened - (cancers - found):
        msg = (
            f"of {screened:g} screened with {cancers:g} cancers, {recalled:g} recalled, {biopsied:g} biopsied and "
            f"{found:g} found is impossible; found <= cancers, found <= biopsied <= recalled <= screened must hold"
        )
        raise InputError(msg)
    missed = cancers - found
    return Funnel(found, recalled - found, missed, screened - recalled - missed, biopsied, found)


def ways(today: Funnel, ai: OperatingPoint, dependence: float = 0.0) -> list[Way]:
    """Today's programme, and what becomes of it with a model used in each way.

    Recalled people with cancer are biopsied; of the healthy recalled, the same share as today.

    Args:
        today: one reader's programme.
        ai: the model alone.
        dependence: of the errors of reader and model, see `apply_ai`.

    >>> slide = programme(1000, 6, 100, 20, 5)
    >>> [round(way.funnel.true_positive, 2) for way in ways(slide, OperatingPoint(0.8, 0.9))]
    [5, 4.0, 5.8, 4.0, 5.5, 5]
    """
    reader = OperatingPoint(today.sensitivity, today.specificity)
    together = {mode: apply_ai(reader, ai, mode, dependence) for mode in MODES}
    found = [
        Way(
            MODES[mode],
            _screened_with(today, point),
            today.screened * point.reads_per_person(today.prevalence),
            needs_location=mode == "second_reader_or",
        )
        for mode, point in together.items()
    ]
    guided = Way("biopsy guidance: only what the model finds suspicious", guide_biopsy(today, ai), today.screened, True)
    return [Way("one reader, no model", today, today.screened), *found, guided]


def _screened_with(today: Funnel, point: OperatingPoint) -> Funnel:
    expected = funnel(today.screened, today.prevalence, point.sensitivity, point.specificity)
    share = (today.biopsied - today.biopsied_with_cancer) / today.false_positive if today.false_positive else 0.0
    biopsied = expected.true_positive + share * expected.false_positive
    return replace(expected, biopsied=biopsied, biopsied_with_cancer=expected.true_positive)


def draw_ways(
    found: Sequence[Way], cancers_found: Mapping[str, tuple[float, float]], path: str | Path, title: str = ""
) -> Figure:
    """Draw what each way costs (recalls, biopsies, reads) and what it finds.

    Args:
        found: as `ways` gives them, today's programme first.
        cancers_found: lowest and highest number of cancers that end in a biopsy, by the name of the way.
        path: PNG, PDF or SVG by suffix.
        title: above the picture.

    >>> from tempfile import TemporaryDirectory
    >>> slide = programme(1000, 6, 100, 20, 5)
    >>> with TemporaryDirectory() as folder:
    ...     figure = draw_ways(ways(slide, OperatingPoint(0.8, 0.9)), {}, f"{folder}/ways.png")
    >>> [axes.get_title() for axes in figure.axes]
    ['recalled', 'biopsied', 'cancers found by biopsy', 'human reads']
    """
    from matplotlib.figure import Figure

    panels = {
        "recalled": [way.funnel.recalled for way in found],
        "biopsied": [way.funnel.biopsied for way in found],
        "cancers found by biopsy": [way.funnel.biopsied_with_cancer for way in found],
        "human reads": [way.reads for way in found],
    }
    figure = Figure(figsize=(14, 0.5 * len(found) + 1.5), layout="constrained")
    names = [way.name for way in found]
    for axes, (label, values) in zip(figure.subplots(1, 4, sharey=True), panels.items(), strict=True):
        axes.barh(names, values, color=["#8c8c8c", *["#3b6fb6"] * (len(found) - 1)])
        axes.axvline(values[0], color="#8c8c8c", linewidth=1, linestyle=":")
        axes.set(title=label, xlim=(0, 1.3 * max(values)))
        for row, value in enumerate(values):
            axes.text(value, row, f" {value:,.0f}" if value >= 100 else f" {value:.3g}", va="center", fontsize=9)
        if label.startswith("cancers"):
            spans = [cancers_found.get(way.name, (value, value)) for way, value in zip(found, values, strict=True)]
            low, high = zip(*spans, strict=True)
            axes.hlines(range(len(found)), low, high, color="black", linewidth=1.5)
    figure.axes[0].invert_yaxis()
    figure.suptitle(title)
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=120)
    return figure
