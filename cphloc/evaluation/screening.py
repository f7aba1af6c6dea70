"""Measure a classifier as a screening test: a threshold chosen on validation cases, and its rates on test cases."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from cphloc.config import jsonio
from cphloc.data.case import Case
from cphloc.data.dataset import Dataset
from cphloc.data.pipeline.pipeline import open_dataset
from cphloc.errors import InputError, NotFoundError, counted, did_you_mean
from cphloc.evaluation.comparison import own_dataset
from cphloc.evaluation.evaluate import open_localizer
from cphloc.evaluation.external import open_external
from cphloc.evaluation.groups import groups_of
from cphloc.evaluation.measure import score_cases
from cphloc.evaluation.scores import Scores
from cphloc.evaluation.unseen import check_unseen, data_of
from cphloc.inference.localizer import Localizer
from cphloc.metrics.bootstrap import weighted_band
from cphloc.metrics.screening import Funnel, OperatingPoint
from cphloc.metrics.screening_impact import JUSTIFIED_FROM, QUANTITIES, Deployment, deployments
from cphloc.structures.merging import of_part
from cphloc.tracking.run import Run

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
        found = {}
        for name, rate in (("sensitivity", 0), ("specificity", 1)):
            spread = weighted_band(lambda weights, rate=rate: np.array([self.rates(weights)[rate]]), self.patients)
            found[name] = _interval(tuple(float(values[0]) for values in spread))
        return {**found, "cases": len(self.present), "with_finding": int(self.present.sum())}

    def _of(self, chosen: np.ndarray) -> MeasuredRates:
        patients = [patient for patient, kept in zip(self.patients, chosen, strict=True) if kept]
        arrays = self.probabilities[chosen], self.present[chosen]
        return replace(
            self, **dict(zip(("probabilities", "present"), arrays, strict=True)), patients=patients, groups={}
        )


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


def measured_rates(
    source: str | Path | Run | Localizer,
    root: str | None = None,
    classes: Sequence[str] = (),
    specificity: float = 0.9,
    sensitivity: float | None = None,
    threshold: float | None = None,
    by: Sequence[str] = (),
) -> MeasuredRates:
    """Predict validation cases to choose a threshold, and test cases to measure what it gives.

    The validation cases are those of ``root`` where it has any, else those of the model's own data set.

    Args:
        source: a run, an entry or a loaded model with a head that gives labels.
        root: folder with test cases, see `cphloc.evaluation.external.open_external`; by default the data set of the
            model.
        classes: a case is positive if one of these classes is present; by default all.
        specificity: least specificity on validation cases; the lowest threshold that reaches it is chosen.
        sensitivity: least sensitivity in its place; the highest threshold that reaches it is chosen.
        threshold: the threshold itself, in place of both.
        by: columns of the data set's table whose groups are measured as well, as in `cphloc.evaluate`.

    Raises:
        NotFoundError: no such model, or no data set.
        InputError: the model gives no such label; there are no cases to choose a threshold on; or no test case has a
            finding, or none is without.
        DataError: the model was trained on a case that it would be measured on.
    """
    localizer, run = open_localizer(source)
    names = _checked(classes, localizer)
    test, validation, own = _data_sets(localizer, run, root)
    cases = test.cases("test")
    if not cases:
        msg = f"data set '{localizer.recipe.data.type}' has no cases in its test split"
        raise NotFoundError(msg)
    for column in by:
        groups_of(column, test, cases)
    check_unseen(run or localizer.listing, test, "test", own)
    if score_cases(localizer, cases[:1])[0].cases[0].labels is None:
        msg = f"{localizer.made_by[0]} gives no image labels, or these cases have none"
        raise InputError(msg)
    if threshold is None:
        threshold, chosen = _chosen(localizer, validation, names, specificity, sensitivity)
    else:
        chosen = f"the threshold {threshold:g} was stated"
    measured = _measured(localizer, cases, names)
    if not len(measured.scores.cases) or measured.present.all() or not measured.present.any():
        msg = f"{counted(len(cases), 'test case')}: a screening test needs cases with {' or '.join(names)} and without"
        raise InputError(msg)
    ids = [case.scores.id for case in measured.scores.cases]
    groups = {column: groups_of(column, test, cases, measured.scores) for column in by}
    return MeasuredRates(
        localizer.made_by[0],
        names,
        threshold,
        f"{chosen}; the rates are of {counted(len(ids), 'test case')}, {int(measured.present.sum())} with a finding",
        measured.probabilities,
        measured.present,
        [case.scores.patient for case in measured.scores.cases],
        {column: [of[id] for id in ids] for column, of in groups.items()},
    )


def threshold_for(
    probabilities: np.ndarray, present: np.ndarray, specificity: float = 0.9, sensitivity: float | None = None
) -> float:
    """Choose the least probability of a positive case.

    Args:
        probabilities: ``(n,)`` in [0, 1].
        present: ``(n,)`` bool, whether there is a finding.
        specificity: least specificity; the lowest threshold that reaches it is returned.
        sensitivity: least sensitivity in its place; the highest threshold that reaches it is returned.

    Raises:
        InputError: there is no case with a finding, or none without.

    >>> p, present = np.array([0.1, 0.4, 0.6, 0.9]), np.array([False, True, False, True])
    >>> threshold_for(p, present, specificity=1.0), threshold_for(p, present, sensitivity=1.0)
    (0.9, 0.4)
    """
    if present.all() or not present.any():
        msg = f"no threshold can be chosen on {counted(len(present), 'case')} that all have a finding, or all have none"
        raise InputError(msg)
    candidates = np.append(np.unique(probabilities), math.inf)
    positive = probabilities[None] >= candidates[:, None]
    if sensitivity is not None:
        return float(candidates[(positive & present).sum(axis=1) >= sensitivity * present.sum() - 1e-9].max())
    return float(candidates[(~positive & ~present).sum(axis=1) >= specificity * (~present).sum() - 1e-9].min())


@dataclass(frozen=True)
class _Labelled:
    """Scored cases whose labels are known, with the largest probability of the classes and whether one is present."""

    scores: Scores
    probabilities: np.ndarray
    present: np.ndarray


def _measured(localizer: Localizer, cases: Sequence[Case], names: Sequence[str]) -> _Labelled:
    """Predict cases; those of which nobody knows whether there is a finding are left out."""
    scores = score_cases(localizer, cases)[0]
    numbers = [list(of_part(localizer.classes, "labels").values()).index(name) for name in names]
    kept, probabilities, present = [], [], []
    for case in scores.cases:
        if case.labels is None:
            continue
        labels = case.labels[1][numbers]
        if (labels == 1).any() or (labels == 0).all():
            kept.append(case)
            probabilities.append(case.labels[0][numbers].max())
            present.append(bool((labels == 1).any()))
    return _Labelled(Scores(kept, scores.classes), np.array(probabilities), np.array(present, bool))


def _chosen(
    localizer: Localizer, dataset: Dataset | None, names: Sequence[str], specificity: float, sensitivity: float | None
) -> tuple[float, str]:
    """Choose the threshold on validation cases; also returns how."""
    cases = [] if dataset is None else dataset.cases("val")
    if not cases:
        msg = "there are no validation cases to choose a threshold on; state one with --threshold"
        raise InputError(msg)
    known = _measured(localizer, cases, names)
    threshold = threshold_for(known.probabilities, known.present, specificity, sensitivity)
    least = f"specificity {specificity:g}" if sensitivity is None else f"sensitivity {sensitivity:g}"
    of = counted(len(known.present), "validation case")
    return threshold, f"the threshold {threshold:.3g} gives at least {least} on {of}"


def _data_sets(localizer: Localizer, run: Run | None, root: str | None) -> tuple[Dataset, Dataset | None, bool]:
    """Open the data set with the test cases, that with the validation cases, and say whether both are the model's."""
    recipe = localizer.recipe
    if root is None:
        dataset = open_dataset(recipe.data, recipe.dims)
        return dataset, dataset, True
    test = open_external(localizer, root, data_of(run or localizer.listing))
    if test.cases("val"):
        check_unseen(run or localizer.listing, test, "val", own=False)
        return test, test, False
    return test, own_dataset(recipe, test, root), False


def _checked(classes: Sequence[str], localizer: Localizer) -> list[str]:
    """Return the classes of a finding, all by default; a class that the model does not have is refused."""
    known = list(of_part(localizer.classes, "labels").values())
    if wrong := [name for name in classes if name not in known]:
        hint = did_you_mean(wrong[0], known) or f"choose from {', '.join(known)}"
        msg = f"{localizer.made_by[0]} has no class '{wrong[0]}'; {hint}"
        raise InputError(msg)
    return list(classes) or known


def _interval(of: Sequence[float]) -> dict[str, float | None]:
    """Return value and ends as JSON has them; ``None`` where they are undefined."""
    return jsonio.plain(dict(zip(("value", "low", "high"), map(float, of), strict=True)))


def _share(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
