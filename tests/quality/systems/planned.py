"""cphloc: the recipe that ``cphloc plan`` writes, trained without a look at it."""

from __future__ import annotations

import os
from pathlib import Path

import cphloc
from cphloc.cli import main
from cphloc.config import yamlio
from cphloc.evaluation.prediction import case_prediction
from cphloc.tracking.run import Place
from cphloc.training.train import train

from ..data import Cases, Predict


class Planned:
    """The planned recipe, with the number of steps and the seed of the comparison."""

    def prepare(self, cases: Cases, folder: Path) -> None:
        """Plan the recipe."""
        given = [f"{key}={yamlio.inline(value)}" for key, value in cases.task.arguments.items()]
        options = [option for text in given for option in ("--set", text)]
        if main(["plan", cases.task.data, *options, "--out", str(folder / "recipe.yaml")]):
            msg = f"cphloc plan {cases.task.data} failed"
            raise RuntimeError(msg)

    def train(self, cases: Cases, steps: int, seed: int, folder: Path) -> tuple[Predict, int]:
        """Train for ``steps`` steps with two validations."""
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder / 'mlflow.db'}"
        overrides = {"train.steps": steps, "train.seed": seed, "train.validate_every": max(1, steps // 2)}
        place = Place(folder / "runs", pictures=False)
        run = train(folder / "recipe.yaml", overrides, place=place)
        model = cphloc.load(str(run.folder))
        thresholds = {**model.thresholds, "boxes": 0.0}
        parameters = sum(p.numel() for p in model.model.parameters())
        return lambda volume: case_prediction(model.predict(volume, threshold=thresholds), cases.classes), parameters
