"""The input of a measure: one seed of one arm, with its trained model and data, each opened on first use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from cphloc.data.pipeline.pipeline import Pipeline
from cphloc.errors import InputError
from cphloc.evaluation.scores import Scores
from cphloc.evaluation.validate import Validator
from cphloc.modeling.build import build_model
from cphloc.modeling.classes import model_classes
from cphloc.modeling.model import Model
from cphloc.recipe.recipe import Recipe, load
from cphloc.registry.contract import construct
from cphloc.structures.merging import merged_annotation
from cphloc.structures.padding import prediction_fill
from cphloc.structures.split import Split
from cphloc.tracking.run import Run
from cphloc.training import checkpoint

if TYPE_CHECKING:
    from cphloc.data.pipeline.cache import PreparedCase
    from cphloc.evaluation.prediction import CasePrediction
    from cphloc.structures.annotation import Annotation

Values = Mapping[str, Mapping[str, float]]
"""Result of a measure: metrics by name, by variant; the variant ``""`` is the arm itself. A value that was not reached
is `Censored`."""

T = TypeVar("T")


class Censored(float):
    """A lower bound of a value that was not reached while it was observed (right-censored), such as a time to an event.

    >>> Censored(240)
    Censored(240.0)
    """

    def __repr__(self) -> str:
        """Return the bound with the name of the class, so that it is not read as a value."""
        return f"Censored({float(self)})"


def required(value: T | None, what: str) -> T:
    """Return a value, or raise an `InputError` that names what the measure needs where it is ``None``."""
    if value is None:
        msg = f"this measure needs {what}; give the study another base recipe or another measure"
        raise InputError(msg)
    return value


class Measure(Protocol):
    """Compute metrics of one arm at one seed."""

    def __call__(self, trained: Trained) -> Values:
        """Measure one arm at one seed."""
        ...


def make_measures(blocks: list[dict[str, Any]]) -> list[Any]:
    """Construct the measures of configuration blocks (``type`` and arguments)."""
    return [construct("measure", block["type"], {k: v for k, v in block.items() if k != "type"}) for block in blocks]


@dataclass
class Trained:
    """One seed of one arm.

    Args:
        seed: random seed of the arm.
        run: the finished training run; ``None`` in a study without models.
    """

    seed: int
    run: Run | None = None

    @property
    def recipe(self) -> Recipe:
        """The recipe that was trained.

        Raises:
            InputError: the study trains nothing.
        """
        return self.trained_run.recipe

    @property
    def data_recipe(self) -> Recipe:
        """The recipe whose data set the measures use."""
        return self.recipe

    @property
    def trained_run(self) -> Run:
        """The finished training; raises as `recipe` does."""
        if self.run is None:
            msg = "this measure needs a trained model; give the study a 'base:' recipe"
            raise InputError(msg)
        return self.run

    @cached_property
    def model(self) -> Model:
        """The trained model with its best weights, in evaluation mode."""
        model = build_model(self.recipe)
        model.load_state_dict(checkpoint.load(self.trained_run.folder / checkpoint.BEST)[0])
        return model.eval()

    @cached_property
    def pipeline(self) -> Pipeline:
        """The data pipeline of the training."""
        return Pipeline.from_recipe(self.data_recipe)

    @cached_property
    def classes(self) -> Mapping[int, str]:
        """Classes of the data set, number -> name, with those that heads of the recipe merge."""
        return model_classes(self.data_recipe, self.pipeline.dataset.classes)

    def annotation(self, case: PreparedCase) -> Annotation:
        """Return the annotation of a case with the weaker parts derived from it, in the classes of the model's heads.

        Args:
            case: a case of the training's data set.
        """
        completed = case.annotation.completed(case.image.shape[1:], len(self.pipeline.dataset.classes))
        return merged_annotation(completed, self.classes)

    def elsewhere(self, data: Mapping[str, Any]) -> Pipeline:
        """Open the data set of the training with other arguments, preprocessed as for training.

        Args:
            data: arguments of the data set that differ from those of the training.
        """
        if not data:
            return self.pipeline
        plain = self.data_recipe.to_plain()
        return Pipeline.from_recipe(load(plain, {f"data.{key}": value for key, value in data.items()}))

    def scores(self, split: Split = "test", data: Mapping[str, Any] | None = None) -> Scores:
        """Predict every case of a split and compare it with its annotation.

        Args:
            split: split whose cases are predicted.
            data: arguments of the data set that differ from those of the training.
        """
        validator, model = self._validator(self.elsewhere(data or {}), split)
        scored = [validator.score_case(model, number) for number in range(len(validator.cases))]
        return Scores(scored, validator.classes)

    def predictions(
        self, split: Split = "test", data: Mapping[str, Any] | None = None
    ) -> list[tuple[PreparedCase, CasePrediction]]:
        """Predict every case of a split; arguments as for `scores`."""
        validator, model = self._validator(self.elsewhere(data or {}), split)
        return [(case, validator.predict(model, case)) for case in validator.cases]

    def _validator(self, pipeline: Pipeline, split: Split) -> tuple[Validator, Model]:
        """Return what predicts and scores the cases of a split, and the model that it is given."""
        cases = pipeline.cases(split)
        fill, tolerances = prediction_fill(pipeline.pad), self.data_recipe.nsd_tolerance_mm
        return Validator(cases, self.classes, cases[0].image.shape[1:], fill, tolerances), self.model
