"""What a model would change in a screening programme: from operating points to people recalled, biopsied and found.

Everything follows from sensitivity, specificity and prevalence. Counts are expected values and need not be whole.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

from cphloc.errors import InputError

Mode = Literal["replace", "triage", "second_reader_or", "second_reader_and", "recall_arbitration"]
"""How a model works with a reader, see `apply_ai`."""


@dataclass(frozen=True)
class OperatingPoint:
    """Sensitivity and specificity of a way of reading, and the human reads it costs.

    Args:
        sensitivity: share of people with cancer who are recalled.
        specificity: share of people without cancer who are not.
        reads_with_cancer: human reads per person with cancer.
        reads_without_cancer: human reads per person without.
    """

    sensitivity: float
    specificity: float
    reads_with_cancer: float = 1.0
    reads_without_cancer: float = 1.0

    def __post_init__(self) -> None:
        _require_share(sensitivity=self.sensitivity, specificity=self.specificity)

    def reads_per_person(self, prevalence: float) -> float:
        """Mean human reads of one person screened."""
        return prevalence * self.reads_with_cancer + (1 - prevalence) * self.reads_without_cancer


@dataclass(frozen=True)
class Funnel:
    """People at each stage of screening: screened, recalled, biopsied, found, missed."""

    true_positive: float
    false_positive: float
    false_negative: float
    true_negative: float
    biopsied: float
    biopsied_with_cancer: float

    @property
    def screened(self) -> float:
        """Everybody."""
        return self.true_positive + self.false_positive + self.false_negative + self.true_negative

    @property
    def recalled(self) -> float:
        """People called back after reading."""
        return self.true_positive + self.false_positive

    @property
    def prevalence(self) -> float:
        """Share of the screened who have cancer."""
        return (self.true_positive + self.false_negative) / self.screened

    @property
    def sensitivity(self) -> float:
        """Share of the cancers that are recalled."""
        return _ratio(self.true_positive, self.true_positive + self.false_negative)

    @property
    def specificity(self) -> float:
        """Share of the healthy who are not recalled."""
        return _ratio(self.true_negative, self.true_negative + self.false_positive)

    @property
    def ppv1(self) -> float:
        """Share of the recalled who have cancer."""
        return _ratio(self.true_positive, self.recalled)

    @property
    def ppv3(self) -> float:
        """Share of the biopsied who have cancer."""
        return _ratio(self.biopsied_with_cancer, self.biopsied)

    @property
    def npv(self) -> float:
        """Share of those not recalled who are healthy."""
        return _ratio(self.true_negative, self.true_negative + self.false_negative)

    @property
    def detected_per_thousand(self) -> float:
        """Cancer detection rate: cancers recalled per 1,000 screened."""
        return 1000 * self.true_positive / self.screened

    @property
    def missed_per_thousand(self) -> float:
        """Cancers missed per 1,000 screened."""
        return 1000 * self.false_negative / self.screened

    @property
    def recall_rate(self) -> float:
        """Share of the screened who are recalled (abnormal interpretation rate)."""
        return self.recalled / self.screened

    @property
    def accuracy(self) -> float:
        """Share of right calls; at low prevalence calling nobody scores higher."""
        return (self.true_positive + self.true_negative) / self.screened

    @property
    def f1(self) -> float:
        """Harmonic mean of sensitivity and PPV1."""
        return _ratio(2 * self.true_positive, 2 * self.true_positive + self.false_positive + self.false_negative)

    @property
    def positive_likelihood_ratio(self) -> float:
        """How much a recall raises the odds of cancer; infinite without false positives."""
        return _ratio(self.sensitivity, 1 - self.specificity)

    @property
    def negative_likelihood_ratio(self) -> float:
        """How much no recall lowers the odds of cancer."""
        return _ratio(1 - self.sensitivity, self.specificity)

    def net_benefit(self, threshold: float) -> float:
        """TP / n - FP / n * p / (1 - p) at the probability ``threshold`` p from which one would act.

        Source: Vickers and Elkin, 2006.
        """
        if not 0 <= threshold < 1:
            msg = f"the threshold probability must lie in [0, 1), got {threshold}"
            raise InputError(msg)
        return (self.true_positive - self.false_positive * threshold / (1 - threshold)) / self.screened

    def intervals(self) -> dict[str, tuple[float, float]]:
        """95 % Wilson intervals of sensitivity, specificity, PPV1, PPV3 and NPV for counts as small as these."""
        return {
            "sensitivity": wilson(self.true_positive, self.true_positive + self.false_negative),
            "specificity": wilson(self.true_negative, self.true_negative + self.false_positive),
            "ppv1": wilson(self.true_positive, self.recalled),
            "ppv3": wilson(self.biopsied_with_cancer, self.biopsied),
            "npv": wilson(self.true_negative, self.true_negative + self.false_negative),
        }


def funnel(
    n: float, prevalence: float, sensitivity: float, specificity: float, biopsy_given_recall: float = 1.0
) -> Funnel:
    """Expected screening funnel of ``n`` people.

    Recalled people with cancer are all biopsied; the other biopsies are of healthy ones.

    Args:
        n: people screened.
        prevalence: share of them with cancer.
        sensitivity: share of those recalled.
        specificity: share of the healthy not recalled.
        biopsy_given_recall: share of the recalled who are biopsied.

    Raises:
        InputError: a share outside [0, 1], or fewer biopsies than recalled cancers.

    >>> slide = funnel(1000, 6 / 1000, 5 / 6, 899 / 994, 20 / 100)
    >>> [round(k) for k in (slide.recalled, slide.biopsied, slide.true_positive, slide.false_negative)]
    [100, 20, 5, 1]
    """
    _require_share(
        prevalence=prevalence,
        sensitivity=sensitivity,
        specificity=specificity,
        biopsy_given_recall=biopsy_given_recall,
    )
    cancers, healthy = n * prevalence, n * (1 - prevalence)
    found, false = cancers * sensitivity, healthy * (1 - specificity)
    biopsied = biopsy_given_recall * (found + false)
    if biopsied < found * (1 - 1e-9):
        msg = f"{biopsied:g} biopsies cannot hold the {found:g} recalled cancers; raise biopsy_given_recall"
        raise InputError(msg)
    return Funnel(found, false, cancers - found, healthy - false, biopsied, found)


def apply_ai(
    reader: OperatingPoint,
    ai: OperatingPoint,
    mode: Mode,
    dependence: float = 0.0,
    arbiter: OperatingPoint | None = None,
) -> OperatingPoint:
    """Operating point of a reader and a model together.

    - ``replace``: the model alone; nobody reads.
    - ``triage``: the reader sees only whom the model flags (rule-out; needs no localization).
    - ``second_reader_or``: recalled if either says so (prompts; the reader needs the location).
    - ``second_reader_and``: recalled if both say so; the reader sees everybody.
    - ``recall_arbitration``: where they disagree, an arbiter reads and decides.

    Args:
        reader: alone.
        ai: the model alone.
        mode: as above.
        dependence: of their errors, given the truth: 0 independent, 1 as dependent as their rates allow.
        arbiter: of ``recall_arbitration``; by default a second reader like the first.

    Raises:
        InputError: an unknown mode, or a dependence outside [0, 1].

    >>> reader, ai = OperatingPoint(5 / 6, 899 / 994), OperatingPoint(0.8, 0.9)
    >>> round(apply_ai(reader, ai, "second_reader_or").sensitivity, 4)
    0.9667
    """
    if mode not in get_args(Mode):
        msg = f"unknown mode {mode!r}; choose from {', '.join(get_args(Mode))}"
        raise InputError(msg)
    _require_share(dependence=dependence)
    arbiter = arbiter or reader
    found, reads_with_cancer = _together(mode, reader.sensitivity, ai.sensitivity, arbiter.sensitivity, dependence)
    false, reads_without_cancer = _together(
        mode, 1 - reader.specificity, 1 - ai.specificity, 1 - arbiter.specificity, dependence
    )
    return OperatingPoint(found, 1 - false, reads_with_cancer, reads_without_cancer)


def guide_biopsy(before: Funnel, ai: OperatingPoint) -> Funnel:
    """Biopsy only whom the model, shown the located finding, calls suspicious; recalls stay as they were.

    Cancers among the recalled that the model dismisses at biopsy are no longer found there.

    Args:
        before: the funnel without guidance.
        ai: the model's operating point among the biopsied.

    >>> slide = funnel(1000, 6 / 1000, 5 / 6, 899 / 994, 20 / 100)
    >>> round(guide_biopsy(slide, OperatingPoint(1.0, 0.6)).biopsied, 6)
    11.0
    """
    found = before.biopsied_with_cancer * ai.sensitivity
    benign = (before.biopsied - before.biopsied_with_cancer) * (1 - ai.specificity)
    return replace(before, biopsied=found + benign, biopsied_with_cancer=found)


def wilson(successes: float, n: float) -> tuple[float, float]:
    """Wilson's 95 % interval of a proportion; (0, 1) where there was no trial.

    >>> [round(p, 3) for p in wilson(5, 6)]
    [0.436, 0.97]
    """
    if not 0 <= successes <= n * (1 + 1e-12):
        msg = f"successes must lie between 0 and the number of trials, got {successes:g} of {n:g}"
        raise InputError(msg)
    if n == 0:
        return 0.0, 1.0
    z = 1.959963984540054
    share = min(1.0, successes / n)
    middle = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, (middle - half) / (1 + z * z / n)), min(1.0, (middle + half) / (1 + z * z / n))


def _both(first: float, second: float, dependence: float) -> float:
    """Probability that both call a person positive: between independent and as often as the rarer one."""
    independent = first * second
    return independent + dependence * (min(first, second) - independent)


def _together(mode: Mode, reader: float, ai: float, arbiter: float, dependence: float) -> tuple[float, float]:
    """Rate of recall and human reads per person, from the rates at which each alone would recall."""
    both = _both(reader, ai, dependence)
    disagree = reader + ai - 2 * both
    return {
        "replace": (ai, 0.0),
        "triage": (both, ai),
        "second_reader_or": (both + disagree, 1.0),
        "second_reader_and": (both, 1.0),
        "recall_arbitration": (both + disagree * arbiter, 1.0 + disagree),
    }[mode]


def _ratio(part: float, whole: float) -> float:
    if whole:
        return part / whole
    return math.inf if part else math.nan


def _require_share(**shares: float) -> None:
    for name, value in shares.items():
        if not -1e-12 <= value <= 1 + 1e-12:
            msg = f"{name} must lie in [0, 1], got {value}"
            raise InputError(msg)
