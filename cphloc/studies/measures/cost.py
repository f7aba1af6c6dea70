"""Measures of computational cost and of training time."""

from __future__ import annotations

from cphloc.config.argument_types import PositiveInt
from cphloc.modeling.describe import describe
from cphloc.registry.metrics import quality
from cphloc.studies.measured import Censored, Trained, Values
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
        at_most: last step to look at; by default the number of training steps.
    """

    def __init__(self, metric: str, value: float, at_most: PositiveInt | None = None) -> None:
        self.metric, self.value, self.at_most = metric, value, at_most

    def __call__(self, trained: Trained) -> Values:
        """Return ``steps_to_reach``, censored at the last step where the value is never reached."""
        last = self.at_most or trained.recipe.train.steps
        curve = curves(trained.trained_run.folder)[f"val/{self.metric}"]
        reached = (step for step, value in curve if step <= last and not worse(self.metric, value, self.value))
        step = next(reached, None)
        return {"": {"steps_to_reach": Censored(last) if step is None else float(step)}}


def worse(metric: str, value: float, wanted: float) -> bool:
    """Return True where a value of a metric is worse than the wanted one, or undefined.

    >>> worse("auc", 0.8, 0.9), worse("hd95_mm", 3.0, 5.0)
    (True, False)
    """
    return not quality(metric, value) >= quality(metric, wanted)
