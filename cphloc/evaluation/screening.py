"""Measure a classifier as a screening test: a threshold chosen on validation cases, and its rates on test cases."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

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
from cphloc.metrics.screening_effects import MeasuredRates
from cphloc.structures.merging import of_part
from cphloc.tracking.run import Run


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
        InputError: a share outside [0, 1]; the model gives no such label; there are no cases to choose a threshold on;
            or no test case has a finding, or none is without.
        DataError: the model was trained on a case that it would be measured on.
    """
    _require_shares(specificity=specificity, sensitivity=sensitivity, threshold=threshold)
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


def _require_shares(**shares: float | None) -> None:
    """Refuse numbers outside [0, 1], before anything is predicted."""
    for name, share in shares.items():
        if share is not None and not 0 <= share <= 1:
            msg = f"{name} must be in [0, 1], got {share:g}"
            raise InputError(msg)
