"""Whether more or less of a metric is better; it imports nothing, so a table of metrics needs none of them."""

from __future__ import annotations

_ERRORS = ("_mm", "error", "error_ml", "brier", "ece", "loss", "wrong_sign", "false_candidates", "checkerboard")
_COSTS = ("multiply_adds", "activation_mb", "parameters_k", "reads", "steps_to_reach")


def lower_is_better(metric: str) -> bool:
    """Whether less of this metric is better, told by the end of its name; ``metric/class`` is that of one class.

    >>> lower_is_better("hd95_mm"), lower_is_better("hd95_mm/tumour"), lower_is_better("dice")
    (True, True, False)
    """
    return metric.partition("/")[0].endswith((*_ERRORS, *_COSTS))
