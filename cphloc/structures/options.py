"""Options of a prediction that were chosen on cases outside the training, and the table of what was tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

OptionName = Literal["tta", "temperature", "threshold", "min_probability", "largest", "min_size"]
"""Key of `OPTIONS`."""

OPTIONS: dict[OptionName, str] = {
    "tta": "mirrored views: average the predictions of the image mirrored along the axes flipped in training",
    "temperature": "divide the logits of the label probabilities, so that they match observed frequencies",
    "threshold": "least score of a box, and least probability of an object in a mask",
    "min_probability": "remove a class from the mask of an image whose label probability of it is below a threshold",
    "largest": "keep only the largest connected component of a class",
    "min_size": "remove connected components of a class that are smaller than a physical size",
}
"""Every option that can be chosen, in the order in which they are tried, with its meaning."""

FEWEST_PATIENTS = 10
"""Smallest number of patients on which an option is chosen; with fewer, its gain is mostly chance."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, defer_build=True)


Positive = Annotated[float, Field(gt=0)]
Part = Literal["boxes", "mask"]
Share = Annotated[float, Field(ge=0, le=1)]


class Options(_Strict):
    """What a prediction applies besides the weights; the default applies nothing.

    Args:
        tta: whether mirrored views are averaged.
        temperature: divides the logits of the label probabilities.
        thresholds: least score of ``boxes``, and least probability of an object in a ``mask``.
        min_probability: class name -> smallest label probability of an image with which the class stays in its mask.
        largest: names of the classes of which only the largest connected component is kept.
        min_size: class name -> smallest size of a connected component, in mm3 (3-D) or mm2 (2-D), or in voxels where
            ``unit`` is ``px``.
        unit: unit of length of the sizes.
    """

    tta: bool = False
    temperature: Positive = 1.0
    thresholds: dict[Part, Share] = {}
    min_probability: dict[str, Share] = {}
    largest: list[str] = []
    min_size: dict[str, Positive] = {}
    unit: Literal["mm", "px"] = "mm"

    @property
    def filters_masks(self) -> bool:
        """Whether classes or connected components of masks are removed."""
        return bool(self.filtered)

    @property
    def filtered(self) -> set[str]:
        """Names of the classes that are removed from some masks, whole or in part."""
        return {*self.min_probability, *self.largest, *self.min_size}

    @property
    def stated(self) -> dict[str, Any]:
        """The values that differ from the default."""
        return self.model_dump(exclude_defaults=True)


class Trial(_Strict):
    """One option that was tried, beside the same predictions without it.

    Args:
        option: key of `OPTIONS`.
        value: what was tried, such as ``0.35`` or ``all axes``.
        of: class or part that it applies to; ``None`` for all.
        metric: what decided.
        before: metric without the option; ``None`` where it was not measured.
        after: metric with it.
        gain: mean paired difference by case, oriented such that more is better.
        low: lower end of its 95 % interval by patient; ``None`` where there is none.
        high: upper end.
        n: number of cases.
        time: factor by which it multiplies the time of a prediction.
        kept: whether predictions apply it.
        why: reason, in words.
    """

    option: OptionName
    value: str
    of: str | None = None
    metric: str | None = None
    before: float | None = None
    after: float | None = None
    gain: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    time: Positive = 1.0
    kept: bool
    why: str


TRIAL_COLUMNS = ("option", "value", "metric", "without", "with", "gain [95 %]", "cases", "time", "kept", "why")
"""Columns of `trial_row`."""


def trial_row(trial: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a `Trial`, as JSON values, as a row of a table.

    >>> trial = Trial(option="tta", value="8 views", metric="dice", gain=0.004, time=8.0, kept=True, why="gains")
    >>> trial_row(trial.model_dump())
    ('tta', '8 views', 'dice', '-', '-', '+0.004', '0', 'x8', 'yes', 'gains')
    """
    gain = "-" if trial["gain"] is None else f"{trial['gain']:+.3f}"
    if trial["low"] is not None and trial["high"] is not None:
        gain += f" [{trial['low']:+.3f}, {trial['high']:+.3f}]"
    means = ("-" if trial[key] is None else f"{trial[key]:.3f}" for key in ("before", "after"))
    name = trial["option"] + ("" if trial["of"] is None else f" ({trial['of']})")
    time = "-" if trial["time"] == 1 else f"x{trial['time']:g}"
    kept = "yes" if trial["kept"] else "no"
    return (name, trial["value"], trial["metric"] or "-", *means, gain, str(trial["n"]), time, kept, trial["why"])


class SizeIntervals(_Strict):
    """How far measured sizes of a class are from the annotated ones, for intervals of new measurements.

    Args:
        level: share of patients whose error is at most that of ``errors``.
        errors: class name -> error in mm, see `cphloc.metrics.conformal.size_error`.
        patients: class name -> number of patients that it was measured on.
        unit: unit of the errors.
    """

    level: Annotated[float, Field(gt=0, lt=1)]
    errors: dict[str, Annotated[float, Field(ge=0)]]
    patients: dict[str, Annotated[int, Field(ge=FEWEST_PATIENTS)]]
    unit: Literal["mm", "px"] = "mm"


class MaskCalibration(_Strict):
    """How far the probabilities of masks are from observed frequencies; see `cphloc.metrics.mask_calibration`.

    Args:
        error: expected calibration error, mean over classes and cases.
        low: lower end of its 95 % interval by patient; ``None`` where all cases are of one patient.
        high: upper end.
        cases: number of cases with an annotated object.
        by_class: class name -> error, of classes that are annotated in any case.
    """

    error: Share
    low: Share | None = None
    high: Share | None = None
    cases: Annotated[int, Field(ge=1)]
    by_class: dict[str, Share]


class ChosenOptions(_Strict):
    """Result of trying every option on cases that were not trained on.

    Args:
        options: what predictions apply.
        trials: every option that was tried, kept or not.
        split: where: the ``val`` split, or ``out-of-fold`` predictions.
        cases: number of cases.
        patients: number of patients.
        sizes: errors of measured sizes on the same cases; ``None`` of models without masks, or of few patients.
        calibration: that of the masks on the same cases, without options; ``None`` of models without masks, of few
            patients, and of entries of earlier versions.
    """

    options: Options = Options()
    trials: list[Trial] = []
    split: Literal["val", "out-of-fold"] = "val"
    cases: Annotated[int, Field(ge=0)] = 0
    patients: Annotated[int, Field(ge=0)] = 0
    sizes: SizeIntervals | None = None
    calibration: MaskCalibration | None = None


def shared_options(members: Sequence[Options]) -> Options:
    """Return the options of an ensemble: what all members apply, with the mean of their values.

    Mirrored views and the temperature are applied by each member itself, and are left at their defaults.
    """
    largest = [name for name in members[0].largest if all(name in one.largest for one in members)]
    same_unit = len({one.unit for one in members if one.min_size}) <= 1
    sizes = _shared_means([one.min_size for one in members]) if same_unit else {}
    thresholds: dict[Any, float] = _shared_means([one.thresholds for one in members])
    likely = _shared_means([one.min_probability for one in members])
    unit = members[0].unit
    return Options(thresholds=thresholds, min_probability=likely, largest=largest, min_size=sizes, unit=unit)


def _shared_means(stated: Sequence[Mapping[Any, float]]) -> dict[Any, float]:
    """Mean value of the keys that all mappings have."""
    shared = [key for key in stated[0] if all(key in one for one in stated)]
    return {key: sum(one[key] for one in stated) / len(stated) for key in shared}
