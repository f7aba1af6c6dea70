"""Arguments of a prediction: what a user asks for, beside what was chosen on validation cases."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypedDict

from cphloc.errors import InputError
from cphloc.structures.options import Options

PARTS_WITH_THRESHOLD = ("boxes", "mask")
"""Parts of a result that a threshold applies to."""


class PredictOptions(TypedDict, total=False):
    """Keyword arguments of `Localizer.predict`, described there."""

    tta: bool | None
    overlap: float | None
    window_batch: int
    skip_air: bool
    uncertainty: bool
    units: Mapping[str, str] | None
    strict: bool
    threshold: float | Mapping[str, float] | None
    postprocess: bool
    progress: Callable[[Iterable], Iterable]


def overridden(
    chosen: Options, tta: bool | None, threshold: float | Mapping[str, float] | None, postprocess: bool
) -> Options:
    """Return the options of one prediction.

    Args:
        chosen: default of what is not given.
        tta: whether to average mirrored views; ``None`` for the default.
        threshold: see `thresholds_of`; ``None`` for the default.
        postprocess: whether to remove classes and components of masks.

    Raises:
        InputError: a threshold is not between 0 and 1.

    >>> overridden(Options(largest=["liver"], tta=True), None, 0.5, False).stated
    {'tta': True, 'thresholds': {'boxes': 0.5, 'mask': 0.5}}
    """
    update: dict[str, Any] = {} if tta is None else {"tta": tta}
    update |= {} if threshold is None else {"thresholds": thresholds_of(threshold)}
    update |= {} if postprocess else {"min_probability": {}, "largest": [], "min_size": {}}
    return chosen.model_copy(update=update)


def thresholds_of(threshold: float | Mapping[str, float]) -> dict[str, float]:
    """Return the threshold of each part, ``boxes`` and ``mask``.

    Args:
        threshold: one for all parts, or by part.

    Raises:
        InputError: it is not between 0 and 1.

    >>> thresholds_of(0.5)
    {'boxes': 0.5, 'mask': 0.5}
    """
    by_part: dict[str, float] = (
        dict(threshold) if isinstance(threshold, Mapping) else dict.fromkeys(PARTS_WITH_THRESHOLD, threshold)
    )
    wrong = [f"{part}: {value}" for part, value in by_part.items() if not 0 <= value <= 1]
    if wrong or set(by_part) - set(PARTS_WITH_THRESHOLD):
        msg = f"a threshold is between 0 and 1, for {' or '.join(PARTS_WITH_THRESHOLD)}; got {wrong or by_part}"
        raise InputError(msg)
    return by_part
