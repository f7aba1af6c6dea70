"""Simulated clinical use of models: screening with a reader, and guidance of biopsies."""

from __future__ import annotations

import math
from typing import cast

import numpy as np
from scipy import ndimage
from scipy.stats import norm

from cphloc.config.argument_types import PositiveFloat, PositiveInt, UnitInterval
from cphloc.evaluation.prediction import CasePrediction
from cphloc.metrics.screening import Funnel, OperatingPoint, apply_ai, funnel
from cphloc.studies.measured import Trained, Values, required

_PREVALENCE = 6 / 1000


class SimulatedReader:
    """Simulated screening by a reader and a model, each with a sensitivity index d'.

    Scores of the healthy are N(0, 1), those of people with cancer N(d', 1), with ``correlation`` between reader and
    model. The reader recalls at the lecture's specificity, 899 of 994. Prompts without location
    do not change the reader's decision; with location, the reader also recalls where the model scores above its 95 %
    specificity and, for people with cancer, points at the cancer.

    Args:
        reader: d' of the reader; 2.27 gives the lecture's 5 of 6 at 899 of 994.
        model: d' of the model.
        correlation: correlation of the two scores within people of the same true state.
        dismissed: fraction of healthy people whom triage by the model excludes from reading.
        located: fraction of the model's prompts on cancers that point at the cancer.
        people: number of simulated people with cancer, and of those without.
    """

    def __init__(
        self,
        reader: PositiveFloat = 2.27,
        model: PositiveFloat = 2.0,
        correlation: UnitInterval = 0.3,
        dismissed: UnitInterval = 0.5,
        located: UnitInterval = 0.8,
        people: PositiveInt = 20_000,
    ) -> None:
        self.reader, self.model, self.correlation = reader, model, correlation
        self.dismissed, self.located, self.people = dismissed, located, people

    def __call__(self, trained: Trained) -> Values:
        """Return ``sensitivity``, ``specificity``, ``ppv1``, ``reads`` and ``net_benefit`` of each reading strategy."""
        rng = np.random.default_rng(trained.seed)
        mixed = [[1, self.correlation], [self.correlation, 1]]
        healthy, ill = (
            rng.multivariate_normal(mean, mixed, self.people) for mean in ((0, 0), (self.reader, self.model))
        )
        recall = norm.ppf(899 / 994)
        flag, prompt = norm.ppf(self.dismissed), norm.ppf(0.95)
        pointed = rng.random(self.people) < self.located

        def way(ill_recalled: np.ndarray, healthy_recalled: np.ndarray, read: float) -> dict[str, float]:
            """Return the rates of one way of screening."""
            return measured(float(ill_recalled.mean()), 1 - float(healthy_recalled.mean()), read)

        alone = ill[:, 0] > recall, healthy[:, 0] > recall
        seen = [_PREVALENCE * (ill[:, 1] > flag).mean(), (1 - _PREVALENCE) * (healthy[:, 1] > flag).mean()]
        return {
            "reader alone": way(*alone, 1.0),
            "triage": way(alone[0] & (ill[:, 1] > flag), alone[1] & (healthy[:, 1] > flag), float(sum(seen))),
            "prompts without location": way(*alone, 1.0),
            "prompts with location": way(
                alone[0] | ((ill[:, 1] > prompt) & pointed), alone[1] | (healthy[:, 1] > prompt), 1.0
            ),
        }


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
