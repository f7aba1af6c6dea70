"""Measures of a baseline that ignores the images, above which an arm must learn before its values prove anything."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import nn

from cphloc.data.pipeline.cache import PreparedCase
from cphloc.data.pipeline.pipeline import Pipeline
from cphloc.errors import InputError
from cphloc.evaluation.baseline import BASELINES, Baseline, prior_baseline
from cphloc.evaluation.prediction import CasePrediction
from cphloc.evaluation.validate import Validator
from cphloc.recipe.recipe import Recipe
from cphloc.registry import catalogue
from cphloc.structures.split import Split
from cphloc.studies.measured import Trained, Values, make_measures
from cphloc.tracking.run import Run

_PARTS = {"labels": "probabilities"}
"""Parts of a head's card that `BASELINES` names otherwise."""


class NoBaselineError(InputError):
    """A measure looks at the trained network itself, so a baseline without one has no value of it."""


class _PriorValidator(Validator):
    """A validator that predicts every case by a baseline instead of the model."""

    baseline: Baseline

    def predict(self, model: Any, case: PreparedCase) -> CasePrediction:
        """Return the average training annotation on the grid of the case."""
        return self.baseline(case.geometry)


@dataclass
class Prior(Trained):
    """One seed of an arm with the average training annotation in place of its predictions.

    Args:
        seed: random seed of the arm.
        run: always ``None``.
        given: the recipe of the arm.
    """

    given: Recipe | None = None

    @property
    def trained_run(self) -> Run:
        """Raise `NoBaselineError`; there is no training."""
        msg = "a baseline has no network"
        raise NoBaselineError(msg)

    @property
    def data_recipe(self) -> Recipe:
        """The recipe whose data set is used."""
        if self.given is None:
            return super().data_recipe
        return self.given

    @cached_property
    def baseline(self) -> Baseline:
        """Average of the training annotations, of the parts that the arm's heads predict."""
        recipe, data = self.data_recipe, self.pipeline
        gives = {part for head in recipe.model.heads.values() for part in catalogue.card("head", head.type).gives}
        parts = {_PARTS.get(part, part) for part in gives} & set(BASELINES)
        return prior_baseline(data.dataset.cases("train"), recipe.dims, self.classes, parts)

    def _validator(self, pipeline: Pipeline, split: Split) -> tuple[Validator, Any]:
        cases = pipeline.cases(split)
        tolerances = self.data_recipe.nsd_tolerance_mm
        validator = _PriorValidator(cases, self.classes, cases[0].image.shape[1:], "zero", tolerances)
        validator.baseline = self.baseline
        return validator, nn.Identity()


_known: dict[str, Values] = {}
"""Values by data, heads, measures and seed, which the arms of a study often have in common."""


def prior_values(recipe: Recipe, measures: list[dict[str, Any]], seed: int) -> Values:
    """Compute the measures of an arm for predictions that ignore the image.

    Args:
        recipe: recipe of the arm.
        measures: type and arguments of the arm's measures; those that look at the network are left out.
        seed: random seed of the arm.
    """
    plain = recipe.to_plain()
    used = {key: plain[key] for key in ("task", "dims", "data")}
    heads = {name: [head.type, head.args.get("classes")] for name, head in recipe.model.heads.items()}
    key = json.dumps([used, heads, plain["model"].get("merged_classes"), measures, seed], sort_keys=True)
    if key not in _known:
        _known[key] = _computed(Prior(seed, given=recipe), measures)
    return _known[key]


def _computed(prior: Prior, measures: list[dict[str, Any]]) -> Values:
    values: dict[str, dict[str, float]] = {}
    for measure in make_measures(measures):
        try:
            found = measure(prior)
        except NoBaselineError:
            continue
        for variant, metrics in found.items():
            values.setdefault(variant, {}).update(metrics)
    return values
