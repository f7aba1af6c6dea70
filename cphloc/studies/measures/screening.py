"""Simulated clinical use of models: screening with a reader, and guidance of biopsies."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, cast

import numpy as np
from scipy import ndimage
from scipy.stats import norm

from cphloc.config.argument_types import NonNegativeFloat, PositiveFloat, PositiveInt, UnitInterval
from cphloc.errors import InputError
from cphloc.evaluation.prediction import CasePrediction
from cphloc.metrics.screening import Funnel, OperatingPoint, apply_ai, funnel
from cphloc.studies.measured import Trained, Values, required

_PREVALENCE = 6 / 1000
_SPECIFICITY = 899 / 994
_PROMPT = float(norm.ppf(0.95))


class SimulatedReader:
    """Simulated screening by a reader and a model, by signal detection theory.

    An image has ``regions``; the reader recalls a person if the evidence in one of them exceeds a criterion. Evidence
    is N(0, 1) in a healthy region and N(d, 1) in that of a cancer, which the reader sometimes overlooks. Criterion and
    d are set so that the reader alone has the lecture's specificity, 899 of 994, and the sensitivity of ``reader``. The
    model scores an image N(0, 1), or N(``model``, 1) with cancer, and prompts above its 95 % specificity.

    A reader with prompts moves the criterion by ``reliance`` times the log likelihood ratio of what is shown, computed
    from the quality that the reader believes the model to have. A prompt without location moves it in every region. A
    prompt with location moves it in the marked region, the other way elsewhere, and makes the reader look there, so
    that a marked cancer is not overlooked. Whether either helps depends on the model and on the reader's reliance.

    Args:
        reader: d' of the reader for the whole image; 2.27 gives the lecture's 5 of 6 at 899 of 994.
        model: d' of the model.
        correlation: correlation of the model's score with the reader's evidence in the region of the cancer, or, in
            healthy people, in the region that the model marks.
        dismissed: fraction of healthy people whom triage by the model excludes from reading.
        located: fraction of the model's prompts on cancers that point at the cancer.
        people: number of simulated people with cancer, and of those without.
        regions: number of regions of an image, at least 2.
        overlooked: fraction of cancers that the reader alone never looks at; three tenths of the cancers that readers
            miss (Kundel et al. 1978, Invest. Radiol. 13:175).
        believed: d' that the reader believes the model to have.
        reliance: 0 ignores prompts, 1 is an ideal observer with that belief, more is over-reliance.
        variant: suffix of the names of the strategies.

    Raises:
        InputError: fewer than 2 regions, or a reader who cannot be that good with that many cancers overlooked.
    """

    def __init__(
        self,
        reader: PositiveFloat = 2.27,
        model: NonNegativeFloat = 2.0,
        correlation: UnitInterval = 0.3,
        dismissed: UnitInterval = 0.5,
        located: UnitInterval = 0.8,
        people: PositiveInt = 20_000,
        regions: PositiveInt = 4,
        overlooked: UnitInterval = 0.05,
        believed: NonNegativeFloat = 2.0,
        reliance: NonNegativeFloat = 0.5,
        variant: str = "",
    ) -> None:
        self.model, self.correlation, self.located = model, correlation, located
        self.dismissed, self.people, self.regions, self.overlooked = dismissed, people, regions, overlooked
        self.believed, self.reliance, self.variant = believed, reliance, variant
        self.criterion, self.index = _criterion_and_index(reader, regions, overlooked)

    def __call__(self, trained: Trained) -> Values:
        """Return the metrics of each reading strategy.

        They are ``sensitivity``, ``specificity``, ``ppv1``, ``reads`` and ``net_benefit`` of the reader's decisions,
        and ``equal_specificity``, the sensitivity if the criterion were moved until the specificity is 899 of 994,
        which compares strategies whose readers recall more or fewer people.
        """
        rng = np.random.default_rng(trained.seed)
        healthy, ill = self._people(rng, cancer=False), self._people(rng, cancer=True)
        flag = norm.ppf(self.dismissed)
        seen = _PREVALENCE * (ill.score > flag).mean() + (1 - _PREVALENCE) * (healthy.score > flag).mean()
        ways: dict[str, tuple[Callable[[_People], np.ndarray], float]] = {
            "reader alone": (self._alone, 1.0),
            "triage": (lambda people: np.where(people.score > flag, self._alone(people), -np.inf), float(seen)),
            "prompts without location": (self._prompted, 1.0),
            "prompts with location": (self._prompted_where, 1.0),
        }
        suffix = f", {self.variant}" if self.variant else ""
        return {name + suffix: self._rates(way(ill), way(healthy), reads) for name, (way, reads) in ways.items()}

    def _rates(self, ill: np.ndarray, healthy: np.ndarray, reads: float) -> dict[str, float]:
        """Return the metrics of a strategy from the strongest evidence in every person."""
        sensitivity, false = (float((evidence > self.criterion).mean()) for evidence in (ill, healthy))
        equal = float((ill > np.quantile(healthy, _SPECIFICITY, method="higher")).mean())
        return measured(sensitivity, 1 - false, reads) | {"equal_specificity": equal}

    def _people(self, rng: np.random.Generator, cancer: bool) -> _People:
        """Draw people; a cancer is in region 0, and a false prompt on healthy people marks region 0."""
        evidence = rng.normal(size=(self.people, self.regions))
        score = self.correlation * evidence[:, 0] + math.sqrt(1 - self.correlation**2) * rng.normal(size=self.people)
        overlooked = (rng.random(self.people) < self.overlooked) & cancer
        marked = np.where((rng.random(self.people) < self.located) | (not cancer), 0, 1)
        evidence[:, 0] += self.index * cancer
        return _People(evidence, score + self.model * cancer, overlooked, marked)

    def _alone(self, people: _People) -> np.ndarray:
        return self._strongest(people, np.zeros_like(people.evidence), people.overlooked)

    def _prompted(self, people: _People) -> np.ndarray:
        """Return the strongest evidence with prompts that say only that the image is suspicious."""
        hits = float(norm.sf(_PROMPT - self.believed))
        ratio = np.where(people.score > _PROMPT, _log(hits / (1 - 0.95)), _log((1 - hits) / 0.95))
        return self._strongest(people, np.broadcast_to(ratio[:, None], people.evidence.shape), people.overlooked)

    def _prompted_where(self, people: _People) -> np.ndarray:
        """Return the strongest evidence with prompts that mark a region."""
        hits, false = float(norm.sf(_PROMPT - self.believed)) * self.located, (1 - 0.95) / self.regions
        shown = (np.arange(self.regions) == people.marked[:, None]) & (people.score > _PROMPT)[:, None]
        ratio = np.where(shown, _log(hits / false), _log((1 - hits) / (1 - false)))
        return self._strongest(people, ratio, people.overlooked & ~shown[:, 0])

    def _strongest(self, people: _People, log_ratio: np.ndarray, overlooked: np.ndarray) -> np.ndarray:
        """Return each person's strongest evidence, raised by what the prompts say instead of lowering the criterion."""
        evidence = people.evidence + self.reliance * log_ratio / self.index
        evidence[overlooked, 0] = -np.inf
        return evidence.max(axis=1)


class _People(NamedTuple):
    """Evidence of the reader ``(n, regions)``, score of the model, cancers not looked at, and regions marked."""

    evidence: np.ndarray
    score: np.ndarray
    overlooked: np.ndarray
    marked: np.ndarray


def _criterion_and_index(reader: float, regions: int, overlooked: float) -> tuple[float, float]:
    """Compute the reader's criterion per region and the d' of a region with cancer that the reader looks at."""
    criterion = float(norm.ppf(_SPECIFICITY ** (1 / regions)))
    missed = norm.sf(reader - norm.ppf(_SPECIFICITY))
    elsewhere = _SPECIFICITY ** (1 - 1 / regions)  # no other region is above the criterion
    found = (1 - missed / elsewhere) / (1 - overlooked) if overlooked < 1 else math.inf
    index = criterion + float(norm.ppf(found)) if 0 < found < 1 else 0.0
    if regions < 2 or index <= 0:
        msg = (
            f"simulated_reader: no reader of d' {reader:g} over {regions} regions overlooks {overlooked:.0%} of the "
            "cancers; take at least 2 regions and a smaller 'overlooked'"
        )
        raise InputError(msg)
    return criterion, index


def _log(ratio: float) -> float:
    return math.log(max(ratio, 1e-12))


def measured(sensitivity: float, specificity: float, reads: float) -> dict[str, float]:
    """Compute the metrics of a reading strategy for 1,000 people of whom 6 have cancer.

    Args:
        sensitivity: of the strategy.
        specificity: of the strategy.
        reads: fraction of people whom the reader reads.
    """
    people: Funnel = funnel(1000, _PREVALENCE, sensitivity, specificity)
    return {
        "sensitivity": sensitivity,
        "specificity": specificity,
        "ppv1": people.ppv1,
        "reads": 1000 * reads,
        "net_benefit": 1000 * people.net_benefit(0.02),
    }


def independent_prompts(reader: OperatingPoint, model: OperatingPoint) -> OperatingPoint:
    """Compute the operating point where a person is recalled if the reader or an independent model is positive.

    >>> together = independent_prompts(OperatingPoint(5 / 6, 899 / 994), OperatingPoint(0.8, 0.9))
    >>> round(together.sensitivity, 4), round(together.specificity, 4)
    (0.9667, 0.814)
    """
    return apply_ai(reader, model, "second_reader_or")


class BiopsyHits:
    """Fraction of simulated biopsies that hit the object when the needle is aimed at the arm's prediction.

    The target is the maximum of attention, the centre of the best box, or the innermost voxel of the largest component
    of the mask, plus a Gaussian error per axis. The variant ``random`` aims at uniformly random points of the image.

    Args:
        error_mm: standard deviation of the needle position per axis in mm.
        tries: number of biopsies per case.
    """

    def __init__(self, error_mm: PositiveFloat = 1.0, tries: PositiveInt = 20) -> None:
        self.error_mm, self.tries = error_mm, tries

    def __call__(self, trained: Trained) -> Values:
        """Return ``biopsy_hits`` of the arm and of ``random``."""
        rng = np.random.default_rng(trained.seed)
        aimed, anywhere = [], []
        for case, found in trained.predictions("test"):
            mask = np.asarray(case.annotation.mask) > 0
            if not mask.any():
                continue
            spacing = np.asarray(case.geometry.spacing_mm)
            strays = rng.normal(0, self.error_mm, (self.tries, mask.ndim)) / spacing
            target = site(found)
            aimed.append(0.0 if target is None else hit_share(mask, target + strays))
            anywhere.append(hit_share(mask, rng.uniform(0, mask.shape, (self.tries, mask.ndim))))
        return {"": {"biopsy_hits": float(np.mean(aimed))}, "random": {"biopsy_hits": float(np.mean(anywhere))}}


def site(found: CasePrediction) -> np.ndarray | None:
    """Return the target ``(D,)`` of the biopsy; ``None`` where nothing was detected.

    Voxel k extends from k to k + 1 along each axis.
    """
    if found.mask is not None:
        if not found.mask.any():
            return None
        labels, count = cast("tuple[np.ndarray, int]", ndimage.label(found.mask))
        largest = labels == 1 + np.bincount(labels.ravel())[1:].argmax() if count > 1 else labels == 1
        depth = cast("np.ndarray", ndimage.distance_transform_edt(np.pad(largest, 1)))
        return np.array(np.unravel_index(depth.argmax(), depth.shape)) - 0.5
    if found.boxes is not None and found.scores is not None:
        if not len(found.boxes):
            return None
        lo, hi = np.split(found.boxes[found.scores.argmax()], 2)
        return (lo + hi) / 2
    attention = required(found.attention, "a model with masks, boxes or attention")
    return np.array(np.unravel_index(attention.argmax(), attention.shape)) + 0.5


def hit_share(mask: np.ndarray, places: np.ndarray) -> float:
    """Compute the fraction of points ``(n, D)`` inside the mask, in voxel coordinates with edges at integers.

    >>> hit_share(np.eye(2, dtype=bool), np.array([[0.5, 0.5], [0.5, 1.5], [9.0, 9.0], [1.9, 1.1]]))
    0.5
    """
    inside = ((places >= 0) & (places < mask.shape)).all(axis=1)
    at = tuple(np.floor(places[inside]).astype(int).T)
    return float(mask[at].sum() / len(places)) if len(places) else math.nan
