"""Compare the effects of different ways of using a model in a screening programme, and draw them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cphloc.errors import InputError
from cphloc.files import atomic
from cphloc.metrics.screening import Funnel, Mode, OperatingPoint, apply_ai, funnel, guide_biopsy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MODES: dict[Mode, str] = {
    "triage": "triage: the reader reads only what the model flags",
    "second_reader_or": "second reader: recalled if either is positive",
    "second_reader_and": "second reader: recalled if both are positive",
    "recall_arbitration": "second reader: an arbiter decides on disagreement",
}
"""Description of each way to combine reader and model, by its name in `apply_ai`."""


QUANTITIES = {
    **dict.fromkeys(("recalled", "biopsied"), ".1f"),
    **dict.fromkeys(("found", "missed"), ".2f"),
    **dict.fromkeys(("sensitivity", "specificity", "ppv1", "ppv3"), ".3f"),
    "reads": ".0f",
    "net_benefit": ".2f",
}
"""Quantities by which ways of screening are compared, in the order of `Deployment.quantities` -> their format."""

JUSTIFIED_FROM = 0.02
"""Probability of cancer from which a finding is followed up, where nothing else is stated: above 2 % in BI-RADS."""


@dataclass(frozen=True)
class Deployment:
    """A way of using a model in a screening programme, and its effect.

    Args:
        name: description, for people.
        funnel: numbers of people recalled, biopsied and diagnosed.
        reads: number of images read by people.
        needs_location: whether it works only if the model also localizes its findings.
    """

    name: str
    funnel: Funnel
    reads: float
    needs_location: bool = False

    def quantities(self, justified_from: float = JUSTIFIED_FROM) -> tuple[float, ...]:
        """Compute what `QUANTITIES` names.

        The net benefit per 1,000 people is that of `Funnel.net_benefit`, but for cancers that are recalled and then
        not biopsied: those do not count as found.

        Args:
            justified_from: probability of cancer from which a recall is justified, in [0, 1).

        >>> slide = Deployment("today", programme(1000, 6, 100, 20, 5), 1000)
        >>> {name: round(value, 2) for name, value in zip(QUANTITIES, slide.quantities(), strict=True)}["net_benefit"]
        3.06
        """
        of = self.funnel
        found = of.biopsied_with_cancer
        missed = of.true_positive + of.false_negative - found
        benefit = 1000 * (of.net_benefit(justified_from) - (of.true_positive - found) / of.screened)
        rates = of.sensitivity, of.specificity, of.ppv1, of.ppv3
        return of.recalled, of.biopsied, found, missed, *rates, self.reads, benefit


def programme(screened: float, cancers: float, recalled: float, biopsied: float, found: float) -> Funnel:
    """Compute the funnel of a screening programme from its yearly counts.

    Args:
        screened: number of people screened.
        cancers: number of them with cancer, detected or missed.
        recalled: number of people recalled.
        biopsied: number of recalled people who had a biopsy.
        found: number of cancers detected, all of them recalled and biopsied.

    Raises:
        InputError: the counts contradict each other.

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


def deployments(today: Funnel, ai: OperatingPoint, dependence: float = 0.0) -> list[Deployment]:
    """Predict the effect of each way of using a model in a screening programme; today's programme comes first.

    Assumes that all recalled people with cancer are biopsied, and the same fraction of the healthy recalled as today.

    Args:
        today: the programme with one reader and no model.
        ai: operating point of the model alone.
        dependence: dependence between the errors of reader and model, see `apply_ai`.

    >>> slide = programme(1000, 6, 100, 20, 5)
    >>> [round(one.funnel.true_positive, 2) for one in deployments(slide, OperatingPoint(0.8, 0.9))]
    [5, 4.0, 5.8, 4.0, 5.5, 5]
    """
    reader = OperatingPoint(today.sensitivity, today.specificity)
    combined = []
    for mode, description in MODES.items():
        point = apply_ai(reader, ai, mode, dependence)
        reads = today.screened * point.reads_per_person(today.prevalence)
        combined.append(Deployment(description, _screened_with(today, point), reads, mode == "second_reader_or"))
    guided = Deployment(
        "biopsy guidance: only what the model finds suspicious", guide_biopsy(today, ai), today.screened, True
    )
    return [Deployment("one reader, no model", today, today.screened), *combined, guided]


def _screened_with(today: Funnel, point: OperatingPoint) -> Funnel:
    """Funnel of today's population screened at another operating point."""
    expected = funnel(today.screened, today.prevalence, point.sensitivity, point.specificity)
    share = (today.biopsied - today.biopsied_with_cancer) / today.false_positive if today.false_positive else 0.0
    biopsied = expected.true_positive + share * expected.false_positive
    return replace(expected, biopsied=biopsied, biopsied_with_cancer=expected.true_positive)


def check_picture(path: str | Path) -> None:
    """Check that a picture can be drawn to a file of this name.

    Raises:
        InputError: its suffix is none of ``.png``, ``.pdf`` and ``.svg``.

    >>> check_picture("effects.bmp")
    Traceback (most recent call last):
    cphloc.errors.InputError: effects.bmp: pictures are drawn as .png, .pdf or .svg; give the file one of these names
    """
    if Path(path).suffix.lower() not in (".png", ".pdf", ".svg"):
        msg = f"{path}: pictures are drawn as .png, .pdf or .svg; give the file one of these names"
        raise InputError(msg)


def draw_deployments(
    compared: Sequence[Deployment], cancers_found: Mapping[str, tuple[float, float]], path: str | Path, title: str = ""
) -> Figure:
    """Draw recalls, biopsies, cancers found and human reads of each deployment as bars.

    Args:
        compared: from `deployments`, today's programme first.
        cancers_found: lowest and highest number of cancers found by biopsy, by the name of the deployment.
        path: file to write; PNG, PDF or SVG, by suffix.
        title: title of the figure.

    Raises:
        InputError: the file has another suffix.

    >>> from tempfile import TemporaryDirectory
    >>> slide = programme(1000, 6, 100, 20, 5)
    >>> with TemporaryDirectory() as folder:
    ...     figure = draw_deployments(deployments(slide, OperatingPoint(0.8, 0.9)), {}, f"{folder}/out.png")
    >>> [axes.get_title() for axes in figure.axes]
    ['recalled', 'biopsied', 'cancers found by biopsy', 'human reads']
    """
    from matplotlib.figure import Figure

    check_picture(path)
    panels = {
        "recalled": [one.funnel.recalled for one in compared],
        "biopsied": [one.funnel.biopsied for one in compared],
        "cancers found by biopsy": [one.funnel.biopsied_with_cancer for one in compared],
        "human reads": [one.reads for one in compared],
    }
    figure = Figure(figsize=(14, 0.5 * len(compared) + 1.5), layout="constrained")
    names = [one.name for one in compared]
    for axes, (label, values) in zip(figure.subplots(1, 4, sharey=True), panels.items(), strict=True):
        axes.barh(names, values, color=["#8c8c8c", *["#3b6fb6"] * (len(compared) - 1)])
        axes.axvline(values[0], color="#8c8c8c", linewidth=1, linestyle=":")
        axes.set(title=label, xlim=(0, 1.3 * max(values)))
        for row, value in enumerate(values):
            axes.text(value, row, f" {value:,.0f}" if value >= 100 else f" {value:.3g}", va="center", fontsize=9)
        if label.startswith("cancers"):
            spans = [cancers_found.get(one.name, (value, value)) for one, value in zip(compared, values, strict=True)]
            low, high = zip(*spans, strict=True)
            axes.hlines(range(len(compared)), low, high, color="black", linewidth=1.5)
    figure.axes[0].invert_yaxis()
    figure.suptitle(title)
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=120)
    return figure
