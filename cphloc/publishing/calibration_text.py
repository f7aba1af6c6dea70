"""What the card of an entry says about the calibration of its probabilities."""

from __future__ import annotations

from cphloc.errors import counted
from cphloc.metrics.mask_calibration import MARGIN
from cphloc.publishing.options import where
from cphloc.publishing.verdict import format_metric
from cphloc.zoo.entry import Entry

_UNKNOWN = "Scores are those of the network; nothing compared them with observed frequencies."


def calibration_text(entry: Entry) -> str:
    """State how far probabilities are from observed frequencies, for each part that was compared."""
    parts = [_of_labels(entry), _of_masks(entry)]
    return "\n\n".join(filter(None, parts)) or _UNKNOWN


def _of_labels(entry: Entry) -> str:
    if (found := entry.calibration) is not None:
        return (
            f"Probabilities are calibrated by a temperature of {found.temperature:.2f}, fitted on the {found.split} "
            f"split. Calibration error on the test split: {format_metric(found.ece_before)} before, "
            f"{format_metric(found.ece_after)} after."
        )
    if (error := entry.evaluation.metrics.get("ece")) is not None:
        return f"Probabilities are those of the network, not rescaled; calibration error {format_metric(error)}."
    return ""


def _of_masks(entry: Entry) -> str:
    """State the calibration error of the masks, which is measured where options are chosen."""
    if entry.options is None or (found := entry.options.calibration) is None:
        return ""
    interval = "" if found.low is None else f" [{found.low:.3f}, {found.high:.3f}]"
    text = (
        f"Probabilities of masks are those of the network, not rescaled. Up to {MARGIN} voxels from the box of an "
        f"object, their calibration error is {found.error:.3f}{interval}, mean over classes and "
        f"{counted(found.cases, 'case')} {where(entry.options)}"
    )
    by_class = ", ".join(f"{name} {error:.3f}" for name, error in found.by_class.items())
    return f"{text}: {by_class}." if len(found.by_class) > 1 else f"{text}."
