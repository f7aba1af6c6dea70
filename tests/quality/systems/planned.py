"""cphloc: the recipe that ``cphloc plan`` writes for the number of steps, trained without a look at it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

import cphloc
from cphloc.config import yamlio
from cphloc.data.planning.plan import Budget, plan
from cphloc.data.planning.survey import survey
from cphloc.evaluation.prediction import CasePrediction, case_prediction
from cphloc.evaluation.validate import Validation, Validator
from cphloc.inference.localization import Localization
from cphloc.recipe.recipe import load
from cphloc.structures.volume import Volume
from cphloc.tracking.run import Place
from cphloc.training.train import train

from ..data import Cases
from . import Trained


class Planned:
    """The planned recipe.

    Args:
        budget: further options of the plan, such as ``preset`` or ``width``.
    """

    def __init__(self, **budget: Any) -> None:
        self.budget = budget

    def prepare(self, cases: Cases, folder: Path) -> None:
        """Survey the training cases."""
        self.surveyed = survey(cases.dataset)

    def train(self, cases: Cases, steps: int, seed: int, folder: Path) -> Trained:
        """Train for ``steps`` steps in this process; the validation cases are not looked at."""
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder / 'mlflow.db'}"
        planned = plan(self.surveyed, cases.task.data, cases.task.arguments, Budget(steps=steps, **self.budget))
        overrides = {"train.seed": seed, "train.validate_every": steps, "data.workers": 0}
        recipe = load(yamlio.read(planned.recipe, "planned.yaml"), overrides)
        (folder / f"recipe-{steps}.yaml").write_text(planned.recipe, encoding="utf-8")
        nothing = Validation({recipe.headline: 0.0})
        with patch.object(Validator, "__call__", lambda *_: nothing):
            run = train(recipe, place=Place(folder / "runs", pictures=False))
        model = cphloc.load(str(run.folder))
        thresholds = {**model.thresholds, "boxes": 0.0}

        def predict(volume: Volume) -> CasePrediction:
            """Predict as `cphloc.load` does, with every box."""
            result = model.predict(volume, threshold=thresholds)
            return with_classes(case_prediction(result, cases.classes), result)

        return Trained(predict, sum(p.numel() for p in model.model.parameters()), recipe.train.batch)


def with_classes(found: CasePrediction, result: Localization) -> CasePrediction:
    """Replace each merged class of a mask by the most probable of its members, as the label head has it."""
    merged = getattr(result.classes, "merged", {}).get("mask")
    if merged is None or found.mask is None or result.probabilities is None:
        return found
    probable = result.probabilities
    table = [max(of, key=lambda number, of=of: probable[of[number]]) for _, of in sorted(merged.members.items())]
    return replace(found, mask=np.array([0, *table], np.uint8)[found.mask])
