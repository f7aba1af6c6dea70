"""Expected effect of a model in a screening programme: numbers of people recalled, biopsied and diagnosed.

All numbers are computed from sensitivity, specificity and prevalence. They are expected values, not necessarily whole.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

from cphloc.errors import InputError
from cphloc.metrics.proportion import wilson

Mode = Literal["replace", "triage", "second_reader_or", "second_reader_and", "recall_arbitration"]
"""Way of combining a reader and a model, described in `apply_ai`."""


@dataclass(frozen=True)
class OperatingPoint:
    """Sensitivity and specificity of a reader, a model or both together, and the number of human reads needed.

    Args:
        sensitivity: fraction of the people with cancer who are recalled, in [0, 1].
        specificity: fraction of the people without cancer who are not recalled, in [0, 1].
        reads_with_cancer: mean number of human reads per person with cancer.
        reads_without_cancer: mean number of human reads per person without cancer.

    Raises:
        InputError: a sensitivity or specificity outside [0, 1].
    """

    sensitivity: float
    specificity: float
    reads_with_cancer: float = 1.0
    reads_without_cancer: float = 1.0

    def __post_init__(self) -> None:
        _require_share(sensitivity=self.sensitivity, specificity=self.specificity)

    def reads_per_person(self, prevalence: float) -> float:
        """Compute the mean number of human reads per person screened, at a prevalence of cancer in [0, 1]."""
        return prevalence * self.reads_with_cancer + (1 - prevalence) * self.reads_without_cancer


@dataclass(frozen=True)
class Funnel:
    """Numbers of people at each stage of a screening programme.

    Args:
        true_positive: people with cancer who were recalled.
        false_positive: people without cancer who were recalled.
        false_negative: people with cancer who were not recalled.
        true_negative: people without cancer who were not recalled.
        biopsied: recalled people who had a biopsy.
        biopsied_with_cancer: people with cancer among ``biopsied``.
    """

    true_positive: float
    false_positive: float
    false_negative: float
    true_negative: float
    biopsied: float
    biopsied_with_cancer: float

    @property
    def screened(self) -> float:
        """Number of people screened."""
        return self.true_positive + self.false_positive + self.false_negative + self.true_negative

    @property
    def recalled(self) -> float:
        """Number of people recalled for further assessment."""
        return self.true_positive + self.false_positive

    @property
    def prevalence(self) -> float:
        """Fraction of the people screened who have cancer."""
        return (self.true_positive + self.false_negative) / self.screened

    @property
    def sensitivity(self) -> float:
        """Fraction of the people with cancer who are recalled."""
        return _ratio(self.true_positive, self.true_positive + self.false_negative)

    @property
    def specificity(self) -> float:
        """Fraction of the people without cancer who are not recalled."""
        return _ratio(self.true_negative, self.true_negative + self.false_positive)

    @property
    def ppv1(self) -> float:
        """Positive predictive value of a recall: fraction of the people recalled who have cancer."""
        return _ratio(self.true_positive, self.recalled)

    @property
    def ppv3(self) -> float:
        """Positive predictive value of a biopsy: fraction of the people biopsied who have cancer."""
        return _ratio(self.biopsied_with_cancer, self.biopsied)

    @property
    def npv(self) -> float:
        """Negative predictive value: fraction of the people not recalled who do not have cancer."""
        return _ratio(self.true_negative, self.true_negative + self.false_negative)

    @property
    def detected_per_thousand(self) -> float:
        """Cancer detection rate: people with cancer recalled per 1,000 screened."""
        return 1000 * self.true_positive / self.screened

    @property
    def missed_per_thousand(self) -> float:
        """People with cancer not recalled, per 1,000 screened."""
        return 1000 * self.false_negative / self.screened

    @property
    def recall_rate(self) -> float:
        """Fraction of the people screened who are recalled; also called abnormal interpretation rate."""
        return self.recalled / self.screened

    @property
    def accuracy(self) -> float:
        """Fraction of correct decisions; at low prevalence, recalling nobody is often more accurate."""
        return (self.true_positive + self.true_negative) / self.screened

    @property
    def f1(self) -> float:
        """Harmonic mean of sensitivity and PPV1."""
        return _ratio(2 * self.true_positive, 2 * self.true_positive + self.false_positive + self.false_negative)

    @property
    def positive_likelihood_ratio(self) -> float:
        """Factor by which a recall changes the odds of cancer; infinite without false positives."""
        return _ratio(self.sensitivity, 1 - self.specificity)

    @property
    def negative_likelihood_ratio(self) -> float:
        """Factor by which not being recalled changes the odds of cancer."""
        return _ratio(1 - self.sensitivity, self.specificity)

    def net_benefit(self, threshold: float) -> float:
        """Compute the net benefit of decision curve analysis, TP / n - FP / n * p / (1 - p).

        Args:
            threshold: probability p of cancer from which a recall is considered justified, in [0, 1).

        Raises:
            InputError: a threshold outside [0, 1).

        Source: Vickers and Elkin, 2006.
        """
        if not 0 <= threshold < 1:
            msg = f"the threshold probability must be in [0, 1), got {threshold}"
            raise InputError(msg)
        return (self.true_positive - self.false_positive * threshold / (1 - threshold)) / self.screened

    def intervals(self) -> dict[str, tuple[float, float]]:
        """Compute 95 % Wilson score intervals of sensitivity, specificity, PPV1, PPV3 and NPV.

        The numbers of people are treated as observed counts.
        """
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
    """Compute the expected screening funnel of ``n`` people.

    Assumes that all recalled people with cancer are biopsied; the remaining biopsies are of people without cancer.

    Args:
        n: number of people screened.
        prevalence: fraction of them with cancer.
        sensitivity: fraction of the people with cancer who are recalled.
        specificity: fraction of the people without cancer who are not recalled.
        biopsy_given_recall: fraction of the people recalled who are biopsied.

    Raises:
        InputError: a fraction outside [0, 1], or fewer biopsies than recalled people with cancer.

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
    detected, false_positive = cancers * sensitivity, healthy * (1 - specificity)
    biopsied = biopsy_given_recall * (detected + false_positive)
    if biopsied < detected * (1 - 1e-9):
        msg = f"{biopsied:g} biopsies are fewer than the {detected:g} recalled cancers; raise biopsy_given_recall"
        raise InputError(msg)
    return Funnel(detected, false_positive, cancers - detected, healthy - false_positive, biopsied, detected)


def apply_ai(
    reader: OperatingPoint,
    ai: OperatingPoint,
    mode: Mode,
    dependence: float = 0.0,
    arbiter: OperatingPoint | None = None,
) -> OperatingPoint:
    """Compute the operating point of a reader and a model combined.

    - ``replace``: the model decides alone, without human reads.
    - ``triage``: the reader reads only the images that the model calls positive (rule-out; no localization needed).
    - ``second_reader_or``: a person is recalled if the reader or the model is positive; the reader reads every image
      and needs the location of the model's findings.
    - ``second_reader_and``: a person is recalled if the reader and the model are positive; the reader reads every
      image.
    - ``recall_arbitration``: the reader reads every image; if reader and model disagree, an arbiter reads and decides.

    Args:
        reader: operating point of the reader alone.
        ai: operating point of the model alone.
        mode: one of the above.
        dependence: dependence of the decisions of reader and model given the true state, from 0 (independent) to 1 (as
            dependent as their rates allow).
        arbiter: operating point of the arbiter in ``recall_arbitration``; by default that of the reader.

    Raises:
        InputError: an unknown mode, or a dependence outside [0, 1].

    >>> reader, ai = OperatingPoint(5 / 6, 899 / 994), OperatingPoint(0.8, 0.9)
    >>> round(apply_ai(reader, ai, "second_reader_or").sensitivity, 4)
    0.9667
    """
    if mode not in get_args(Mode):
        msg = f"mode must be one of {', '.join(get_args(Mode))}; got {mode!r}"
        raise InputError(msg)
    _require_share(dependence=dependence)
    arbiter = arbiter or reader
    detected, reads_with_cancer = _together(mode, reader.sensitivity, ai.sensitivity, arbiter.sensitivity, dependence)
    false_positive_rate, reads_without_cancer = _together(
        mode, 1 - reader.specificity, 1 - ai.specificity, 1 - arbiter.specificity, dependence
    )
    return OperatingPoint(detected, 1 - false_positive_rate, reads_with_cancer, reads_without_cancer)


def guide_biopsy(before: Funnel, ai: OperatingPoint) -> Funnel:
    """Compute the funnel if only those biopsies are taken whose finding the model calls suspicious.

    The recalls do not change. A cancer whose finding the model calls benign is no longer biopsied.

    Args:
        before: funnel without the model.
        ai: operating point of the model on the findings biopsied so far.

    >>> slide = funnel(1000, 6 / 1000, 5 / 6, 899 / 994, 20 / 100)
    >>> round(guide_biopsy(slide, OperatingPoint(1.0, 0.6)).biopsied, 6)
    11.0
    """
    malignant = before.biopsied_with_cancer * ai.sensitivity
    benign = (before.biopsied - before.biopsied_with_cancer) * (1 - ai.specificity)
    return replace(before, biopsied=malignant + benign, biopsied_with_cancer=malignant)


def _both(first: float, second: float, dependence: float) -> float:
    """Probability that both are positive: the product for dependence 0, the smaller of the two for dependence 1."""
    independent = first * second
    return independent + dependence * (min(first, second) - independent)


def _together(mode: Mode, reader: float, ai: float, arbiter: float, dependence: float) -> tuple[float, float]:
    """Recall rate and human reads per person of a mode, from the recall rates of reader, model and arbiter alone."""
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
            msg = f"{name} must be in [0, 1], got {value}"
            raise InputError(msg)
