"""What a metric says: which counts first, which way is better. It imports nothing, so tables of metrics are cheap."""

from __future__ import annotations

DESCRIPTIVE = ("attention_entropy", "volume_error", "volume_error_ml")
"""Metrics that neither direction makes better: how spread attention is, and signed errors."""

_ERRORS = ("_mm", "error", "error_ml", "brier", "ece", "loss", "wrong_sign", "false_candidates", "checkerboard")
_COSTS = ("multiply_adds", "activation_mb", "parameters_k", "reads", "steps_to_reach")
_HEADLINES = {"detection": "ap50", "attention": "attention_mass", "classification": "auc"}


def headline(task: str) -> str:
    """The metric that a task is judged by first, unless a recipe names another as ``train.best``.

    >>> headline("detection"), headline("segmentation")
    ('ap50', 'dice')
    """
    return _HEADLINES.get(task, "dice")


def lower_is_better(metric: str) -> bool:
    """Whether less of this metric is better, told by the end of its name; ``metric/class`` is that of one class.

    >>> lower_is_better("hd95_mm"), lower_is_better("hd95_mm/tumour"), lower_is_better("dice")
    (True, True, False)
    """
    return metric.partition("/")[0].endswith((*_ERRORS, *_COSTS))
