"""Comparison of a model with a baseline that ignores the image, on the same cases."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from cphloc.data.case import Case
from cphloc.data.dataset import Dataset
from cphloc.data.pipeline.pipeline import open_dataset
from cphloc.errors import InputError, NotFoundError
from cphloc.evaluation.baseline import Baseline, prior_baseline
from cphloc.evaluation.scores import Scores
from cphloc.inference.localizer import Localizer
from cphloc.metrics.bootstrap import Difference, paired_difference, weighted_bootstrap
from cphloc.recipe.recipe import Recipe
from cphloc.registry.metrics import is_signed
from cphloc.structures.split import Split
from cphloc.tracking.run import Run
from cphloc.zoo.names import BASELINE_FILE
from cphloc.zoo.stored import checked_path


def find_baseline(
    localizer: Localizer, run: Run | None, dataset: Dataset, root: str | None
) -> Callable[[Collection[str]], Baseline] | None:
    """Find the baseline that a model is compared with.

    An entry stores its own. That of a run, or of an entry published before baselines were stored, is averaged from the
    training cases of the recipe's data set, and of a cross-validation also from the validation cases, which its
    networks have learned from too; where they are not at hand, a run's last evaluation stored it.

    Args:
        localizer: the model.
        run: its run; ``None`` for an entry.
        dataset: the data set that is evaluated.
        root: its folder, if it is another one than that of the training.

    Returns:
        a function from the parts that the model predicts (keys of `cphloc.evaluation.baseline.BASELINES`) to the
        baseline; ``None``, with a note on stderr, where there is none.
    """
    recipe, classes, listing = localizer.recipe, localizer.classes, localizer.listing
    if listing is not None and BASELINE_FILE in listing.entry.files:
        published = Baseline.load(checked_path(listing, BASELINE_FILE), recipe.dims, classes)
        return lambda parts: published
    splits: tuple[Split, ...] = ("train", "val") if run is not None and run.is_cross_validation else ("train",)
    if training := _training_cases(recipe, dataset, root, splits):
        return lambda parts: prior_baseline(training, recipe.dims, classes, parts)
    file = None if run is None else run.folder / BASELINE_FILE
    if file is not None and file.is_file():
        stored = Baseline.load(file, recipe.dims, classes)
        return lambda parts: stored
    print(
        "no baseline stored, and no training cases at hand: the model is measured without a baseline", file=sys.stderr
    )
    return None


def _training_cases(recipe: Recipe, dataset: Dataset, root: str | None, splits: Sequence[Split]) -> list[Case]:
    """Cases of these splits of the recipe's own data set; none where they are not at hand."""
    try:
        own = own_dataset(recipe, dataset, root)
        return [] if own is None else [case for split in splits for case in own.cases(split)]
    except (NotFoundError, InputError):
        return []


def own_dataset(recipe: Recipe, dataset: Dataset, root: str | None) -> Dataset | None:
    """Return the data set that a recipe names; ``None`` where it is not at hand.

    Args:
        recipe: the recipe.
        dataset: the data set that is evaluated.
        root: its folder, if it is another one than that of the recipe.
    """
    try:
        return dataset if root is None else open_dataset(recipe.data, recipe.dims)
    except (NotFoundError, InputError):
        return None


def paired_differences(model: Scores, baseline: Scores) -> dict[str, Difference]:
    """Compute model minus baseline for every metric that both have, with 95 % intervals resampled by patient.

    Of signed errors the distances from 0 are compared.

    Metrics of single cases are compared on the cases where both are defined, with the p-value of a sign-flip test by
    patient. Metrics that pool all cases (AP, AUC) are computed for both from the same resampled patients; they have no
    p-value (NaN).

    Args:
        model: scores of the model.
        baseline: scores of the baseline on the same cases, in the same order.
    """
    first, second = ([case.scores for case in scores.cases] for scores in (model, baseline))
    names = dict.fromkeys(name for case in first for name in case.scores)
    shared = [name for name in names if any(name in case.scores for case in second)]
    patients = [case.patient for case in first]
    found = {}
    for name in shared:
        values = np.array([[case.scores.get(name, math.nan) for case in cases] for cases in (first, second)], float)
        values = np.abs(values) if is_signed(name) else values
        found[name] = paired_difference(*values, groups=patients)
    others = baseline.pooled
    for name, statistic in model.pooled.items():
        if (other := others.get(name)) is not None:
            gain = weighted_bootstrap(lambda w, a=statistic, b=other: a(w) - b(w), patients)
            found[name] = Difference(*gain, p_value=math.nan)
    return found


def beside(model: Scores, baseline: Scores | None) -> list[dict[str, Any]]:
    """Return one row per case with the scores of the model and, as ``<metric>_baseline``, those of the baseline."""
    if baseline is None:
        return model.rows
    others = [{f"{k}_baseline": v for k, v in case.scores.scores.items()} for case in baseline.cases]
    return [row | other for row, other in zip(model.rows, others, strict=True)]


def tracked(facts: Mapping[str, Any]) -> dict[str, float]:
    """Return baseline and paired differences of an evaluation by MLflow key; undefined values are left out."""
    flat: dict[str, float | None] = {}
    for name, metric in ((facts["baseline"] or {}).get("metrics") or {}).items():
        flat[f"{name}_baseline"] = metric["value"]
    for name, gain in ((facts["paired"] or {}).get("metrics") or {}).items():
        ends = {"": gain["value"], "_ci_low": gain["low"], "_ci_high": gain["high"]}
        flat |= {f"{name}_paired{end}": value for end, value in ends.items()}
    return {f"{facts['split']}/{name}": v for name, v in flat.items() if v is not None and math.isfinite(v)}
