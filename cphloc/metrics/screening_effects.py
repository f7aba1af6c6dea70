"""Estimate what each way of using a model changes in a screening programme, with intervals from the model's rates."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from cphloc.config import jsonio
from cphloc.metrics.bootstrap import weighted_band, weighted_bootstrap
from cphloc.metrics.screening import Funnel, OperatingPoint
from cphloc.metrics.screening_impact import JUSTIFIED_FROM, QUANTITIES, Deployment, deployments

Spread = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Values with the lower and upper ends of their 95 % intervals, each ``(n,)``."""

Quantities = Callable[[float, float], np.ndarray]
"""Function of sensitivity and specificity to the values ``(n,)`` of quantities that depend on them."""


class Rates(ABC):
    """Sensitivity and specificity of a model, with their uncertainty.

    Attributes:
        name: of the model.
        source: where the numbers are from, a sentence; empty where the user states them.
    """

    name: str
    source: str

    @abstractmethod
    def spread(self, of: Quantities) -> Spread:
        """Compute quantities with their 95 % intervals."""

    def facts(self) -> dict[str, Any]:
        """Return sensitivity and specificity with their intervals, as JSON has them."""
        spread = self.spread(lambda sensitivity, specificity: np.array([sensitivity, specificity]))
        return dict(zip(("sensitivity", "specificity"), map(_interval, zip(*spread, strict=True)), strict=True))


@dataclass(frozen=True)
class StatedRates(Rates):
    """Sensitivity and specificity that somebody states.

    Args:
        name: of the model.
        sensitivity: value and ends of its interval.
        specificity: value, taken as exact.
        source: where the numbers are from, one sentence; empty where the user states them.
    """

    name: str
    sensitivity: tuple[float, float, float]
    specificity: float
    source: str = ""

    def spread(self, of: Quantities) -> Spread:
        """Compute quantities at the sensitivity and at both ends of its interval.

        >>> rates = StatedRates("a model", (0.8, 0.7, 0.9), 0.95)
        >>> [ends.tolist() for ends in rates.spread(lambda sensitivity, specificity: np.array([1 - sensitivity]))]
        [[0.19999999999999996], [0.09999999999999998], [0.30000000000000004]]
        """
        value, *ends = (of(sensitivity, self.specificity) for sensitivity in self.sensitivity)
        return value, np.min(ends, axis=0), np.max(ends, axis=0)


@dataclass(frozen=True)
class MeasuredRates(Rates):
    """A model that says of each test case whether it is positive, at a threshold that is chosen elsewhere.

    Args:
        name: of the model.
        classes: a case is positive if one of these classes is present.
        threshold: least probability of a positive case.
        source: on which cases the threshold was chosen, one sentence.
        probabilities: ``(n,)``, largest probability of the classes in each case.
        present: ``(n,)`` bool, whether one of the classes is annotated.
        patients: patient of each case.
        groups: column -> group of each case, in the order of the cases.
    """

    name: str
    classes: Sequence[str]
    threshold: float
    source: str
    probabilities: np.ndarray
    present: np.ndarray
    patients: Sequence[str]
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def rates(self, weights: np.ndarray) -> tuple[float, float]:
        """Compute sensitivity and specificity of the cases, each counted ``weights`` times; NaN without such cases."""
        positive = self.probabilities >= self.threshold
        with_finding, without = weights * self.present, weights * ~self.present
        found, cleared = float(with_finding @ positive), float(without @ ~positive)
        return _share(found, float(with_finding.sum())), _share(cleared, float(without.sum()))

    def spread(self, of: Quantities) -> Spread:
        """Compute quantities with their 95 % intervals, resampled by patient."""
        size = len(of(0.5, 0.5))

        def _of(weights: np.ndarray) -> np.ndarray:
            """Return the quantities of a resample; NaN where it has no case with a finding, or none without."""
            rates = self.rates(weights)
            return np.full(size, math.nan) if any(map(math.isnan, rates)) else of(*rates)

        return weighted_band(_of, self.patients)

    def facts(self) -> dict[str, Any]:
        """Return the rates of all cases and of each group, the threshold, and the classes and numbers of cases."""
        by = {
            column: {group: self._of(np.array([own == group for own in of])) for group in sorted(set(of))}
            for column, of in self.groups.items()
        }
        return {
            **{"classes": list(self.classes), "threshold": self.threshold, **self._counted()},
            "by": {column: {group: part._counted() for group, part in of.items()} for column, of in by.items()},
        }

    def _counted(self) -> dict[str, Any]:
        """Return the rates of the cases, each of those where it is defined, and their numbers."""
        found = {
            name: _interval(weighted_bootstrap(lambda weights, rate=rate: self.rates(weights)[rate], self.patients)[:3])
            for rate, name in enumerate(("sensitivity", "specificity"))
        }
        return {**found, "cases": len(self.present), "with_finding": int(self.present.sum())}

    def _of(self, chosen: np.ndarray) -> MeasuredRates:
        patients = [patient for patient, kept in zip(self.patients, chosen, strict=True) if kept]
        probabilities, present = self.probabilities[chosen], self.present[chosen]
        return replace(self, probabilities=probabilities, present=present, patients=patients, groups={})


@dataclass(frozen=True)
class Effect:
    """What a way of screening gives, with 95 % intervals.

    Args:
        way: the way.
        numbers: name of `cphloc.metrics.screening_impact.QUANTITIES` -> value and ends of its interval.
    """

    way: Deployment
    numbers: Mapping[str, Sequence[float]]

    def facts(self) -> dict[str, Any]:
        """Return the effect as JSON has it."""
        numbers = {name: _interval(of) for name, of in self.numbers.items()}
        return {"name": self.way.name, "needs_location": self.way.needs_location, **asdict(self.way.funnel), **numbers}


def with_interval(quantity: str, of: Mapping[str, float | None]) -> str:
    """Format a quantity with its interval, unless that has no length.

    Args:
        quantity: name in `cphloc.metrics.screening_impact.QUANTITIES`.
        of: ``value``, ``low`` and ``high``.

    >>> with_interval("found", {"value": 3.6, "low": 2.92, "high": 4.27})
    '3.60 (2.92 to 4.27)'
    """
    value, low, high = ("-" if of[k] is None else f"{of[k]:{QUANTITIES[quantity]}}" for k in ("value", "low", "high"))
    return value if low == high else f"{value} ({low} to {high})"


def effects(
    rates: Rates, today: Funnel, dependence: float = 0.0, justified_from: float = JUSTIFIED_FROM
) -> list[Effect]:
    """Estimate what each way of using a model would change in a screening programme; today's programme comes first.

    Args:
        rates: sensitivity and specificity of the model; their uncertainty is that of the effects, whose programme is
            taken as it is.
        today: the programme with one reader and no model.
        dependence: dependence between the errors of reader and model, see `cphloc.metrics.screening.apply_ai`.
        justified_from: see `cphloc.metrics.screening_impact.Deployment.quantities`.

    >>> from cphloc.metrics.screening_impact import programme
    >>> slide = programme(1000, 6, 100, 20, 5)
    >>> today, triage, *_ = effects(StatedRates("a model", (0.8, 0.7, 0.9), 0.9), slide)
    >>> [round(number, 2) for number in triage.numbers["found"]]
    [4.0, 3.5, 4.5]
    """

    def _ways(sensitivity: float, specificity: float) -> list[Deployment]:
        return deployments(today, OperatingPoint(sensitivity, specificity), dependence)

    def _of(sensitivity: float, specificity: float) -> np.ndarray:
        return np.concatenate([way.quantities(justified_from) for way in _ways(sensitivity, specificity)])

    value = rates.facts()
    ways = _ways(value["sensitivity"]["value"], value["specificity"]["value"])
    spread = np.stack(rates.spread(_of), axis=1).reshape(len(ways), len(QUANTITIES), 3)
    return [
        Effect(way, {name: tuple(map(float, of)) for name, of in zip(QUANTITIES, numbers, strict=True)})
        for way, numbers in zip(ways, spread, strict=True)
    ]


def _interval(of: Sequence[float]) -> dict[str, float | None]:
    """Return value and ends as JSON has them; ``None`` where they are undefined."""
    return jsonio.plain(dict(zip(("value", "low", "high"), map(float, of), strict=True)))


def _share(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
