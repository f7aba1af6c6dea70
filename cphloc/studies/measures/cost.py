"""What a model costs, and how long it takes to learn."""

from __future__ import annotations

from cphloc.config.argument_types import PositiveInt
from cphloc.modeling.describe import describe
from cphloc.studies.measured import Trained, Values
from cphloc.tracking.record import curves


class Cost:
    """Work and memory of one forward pass of one patch, as `cphloc describe` counts them."""

    def __call__(self, trained: Trained) -> Values:
        """``mega_multiply_adds``, ``activation_mb``, ``parameters_k`` and ``receptive_field`` (first axis, deepest)."""
        found = describe(trained.recipe)
        return {
            "": {
                "mega_multiply_adds": found.multiply_adds / 1e6,
                "activation_mb": found.activation_mb,
                "parameters_k": sum(found.parameters.values()) / 1e3,
                "receptive_field": found.levels[-1][2][0].size,
            }
        }


class StepsTo:
    """Steps until a validation metric first reaches a value; all steps where it never does.

    Args:
        metric: of validation.
        value: to reach.
        at_most: steps that count where it was never reached; by default the whole training.
    """

    def __init__(self, metric: str, value: float, at_most: PositiveInt | None = None) -> None:
        self.metric, self.value, self.at_most = metric, value, at_most

    def __call__(self, trained: Trained) -> Values:
        """``steps_to_reach``."""
        curve = curves(trained.trained_run.folder)[f"val/{self.metric}"]
        never = self.at_most or trained.recipe.train.steps
        return {"": {"steps_to_reach": float(next((step for step, v in curve if v >= self.value), never))}}
