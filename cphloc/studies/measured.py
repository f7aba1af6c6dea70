"""What a measure is given: one seed of one arm, its trained model and its data, each opened when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from cphloc.data.pipeline.pipeline import Pipeline
from cphloc.errors import InputError
from cphloc.evaluation.scores import Scores
from cphloc.evaluation.validate import Validator
from cphloc.modeling.build import build_model
from cphloc.modeling.model import Model
from cphloc.recipe.recipe import Recipe, load
from cphloc.tracking.run import Run
from cphloc.training import checkpoint

if TYPE_CHECKING:
    from cphloc.data.pipeline.cache import PreparedCase
    from cphloc.evaluation.scores import CasePrediction

Values = Mapping[str, Mapping[str, float]]
"""What a measure gives: metrics by variant; the variant ``""`` is the arm itself."""


class Measure(Protocol):
    """Turns a trained model, or a seed alone, into named numbers."""

    def __call__(self, trained: Trained) -> Values:
        """Measure one arm at one seed."""


@dataclass
class Trained:
    """One seed of one arm.

    Args:
        seed: of everything random.
        run: the finished training; ``None`` in a study without models.
    """

    seed: int
    run: Run | None = None

    @property
    def recipe(self) -> Recipe:
        """What was trained.

        Raises:
            InputError: the study trains nothing.
        """
        if self.run is None:
            msg = "this measure needs a trained model; give the study a 'base:' recipe"
            raise InputError(msg)
        return self.run.recipe

    @cached_property
    def model(self) -> Model:
        """The best weights, in evaluation mode."""
        model = build_model(self.recipe)
        model.load_state_dict(checkpoint.load(self.run.folder / checkpoint.BEST)[0])
        return model.eval()

    @cached_property
    def pipeline(self) -> Pipeline:
        """The data it was trained on."""
        return Pipeline.from_recipe(self.recipe)

    def elsewhere(self, data: Mapping[str, Any]) -> Pipeline:
        """Its data set with other arguments, prepared as for the training."""
        if not data:
            return self.pipeline
        plain = self.recipe.to_plain()
        return Pipeline.from_recipe(load(plain, {f"data.{key}": value for key, value in data.items()}))

    def scores(self, split: str = "test", data: Mapping[str, Any] | None = None) -> Scores:
        """Every case of a split, predicted and compared with its annotation."""
        validator = self._validator(self.elsewhere(data or {}), split)
        scored = [validator.score_case(self.model, number) for number in range(len(validator.cases))]
        return Scores(scored, validator.classes)

    def found(
        self, split: str = "test", data: Mapping[str, Any] | None = None
    ) -> list[tuple[PreparedCase, CasePrediction]]:
        """Every case of a split with what the model finds in it."""
        validator = self._validator(self.elsewhere(data or {}), split)
        return [(case, validator.predict(self.model, case)) for case in validator.cases]

    def _validator(self, pipeline: Pipeline, split: str) -> Validator:
        cases = pipeline.cases(split)
        return Validator(cases, pipeline.dataset.classes, cases[0].image.shape[1:])
