"""Measures of computational cost and of training time."""

from __future__ import annotations

from cphloc.config.argument_types import PositiveInt
from cphloc.modeling.describe import describe
from cphloc.studies.measured import Trained, Values
from cphloc.tracking.record import curves


class Cost:
    """Computation and memory of a forward pass of one patch, as ``cphloc describe`` counts them."""

    def __call__(self, trained: Trained) -> Values:
        """Return ``mega_multiply_adds``, ``activation_mb``, ``parameters_k`` and ``receptive_field``.

        The receptive field is that of the deepest level along the first axis, in voxels.
        """
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
    """Number of training steps until a validation metric first reaches a value.

    Args:
        metric: name of the validation metric.
        value: value to reach.
        at_most: result where the value is never reached; by default the number of training steps.
    """

    def __init__(self, metric: str, value: float, at_most: PositiveInt | None = None) -> None:
        self.metric, self.value, self.at_most = metric, value, at_most

    def __call__(self, trained: Trained) -> Values:
        """Return ``steps_to_reach``."""
        curve = curves(trained.trained_run.folder)[f"val/{self.metric}"]
        never = self.at_most or trained.recipe.train.steps
        return {"": {"steps_to_reach": float(next((step for step, v in curve if v >= self.value), never))}}
