"""Try options of masks outside the training: a threshold, a least label probability, components and their sizes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cphloc.evaluation.packed import Packed
from cphloc.evaluation.trial import LEAST_GAIN, compared, not_tried
from cphloc.inference.components import keeps
from cphloc.metrics.calibration import LEAST_CASES, tempered
from cphloc.metrics.evaluation import segmentation_scores
from cphloc.metrics.mask_calibration import mask_calibration_error
from cphloc.metrics.segmentation import bounding_box, connected_components
from cphloc.metrics.segmentation import dice as dice_of
from cphloc.registry.metrics import quality
from cphloc.structures.annotation import IGNORE
from cphloc.structures.geometry import Geometry
from cphloc.structures.options import Trial

GRID = np.arange(0.05, 0.96, 0.05).round(2)
"""Candidate thresholds of mask probabilities."""

SIZES = (0.01, 0.03, 0.1, 0.3)
"""Candidate least sizes, as fractions of the median object of a class."""

HARM = 0.005
"""What a class may lose where a threshold gains on average, in units of the metric."""


@dataclass(frozen=True)
class MaskCase:
    """Prediction and annotation of one case, from which the mask at every threshold can be made.

    Args:
        patient: id of the patient.
        geometry: grid of the image.
        known: ``(K,)`` bool, classes that were looked for.
        reference: annotated class of each voxel, 255 where not annotated.
        most_probable: most probable class of each voxel.
        foreground: most probable class but background.
        level: number of thresholds of `GRID` that the probability of ``foreground`` reaches.
        dice: `dice_by_threshold`, NaN for unknown classes.
        has_object: whether a known class is annotated in it.
        likely: ``(K,)`` label probability of each class; NaN without one.
        calibration_error: ``(K,)`` `mask_calibration_error` of each class; NaN where it is unknown or not annotated.
    """

    patient: str
    geometry: Geometry
    known: np.ndarray
    reference: Packed
    most_probable: Packed
    foreground: Packed
    level: Packed
    dice: np.ndarray
    has_object: bool
    likely: np.ndarray
    calibration_error: np.ndarray

    @classmethod
    def of(
        cls,
        probabilities: np.ndarray,
        mask: np.ndarray,
        geometry: Geometry,
        patient: str,
        known: np.ndarray | None = None,
        likely: Mapping[int, float] | None = None,
    ) -> MaskCase:
        """Summarize a case.

        Args:
            probabilities: ``(K + 1, *S)`` class probabilities, background first.
            mask: ``(*S)`` annotated classes; 255 is not annotated.
            geometry: grid of both.
            patient: id of the patient.
            known: ``(K,)`` bool, classes that were looked for; ``None`` for all.
            likely: label probability by number of the class.
        """
        known = np.ones(len(probabilities) - 1, bool) if known is None else np.asarray(known, bool)
        level = np.digitize(probabilities[1:].max(axis=0), GRID).astype(np.uint8)
        foreground = np.where(level > 0, probabilities[1:].argmax(axis=0) + 1, 0).astype(np.uint8)
        parts = mask, probabilities.argmax(axis=0).astype(np.uint8), foreground, level
        packed = Packed.of(parts[0]), Packed.of(parts[1]), Packed.of(parts[2]), Packed.of(parts[3])
        has_object = bool(np.isin(mask, 1 + np.flatnonzero(known)).any())
        dice = np.where(known, dice_by_threshold(probabilities, mask), np.nan)
        labels = np.array([(likely or {}).get(number, math.nan) for number in range(1, len(probabilities))])
        errors = [mask_calibration_error(p, mask, number) for number, p in enumerate(probabilities[1:], start=1)]
        return cls(patient, geometry, known, *packed, dice, has_object, labels, np.where(known, errors, np.nan))

    def mask(self, threshold: float | None) -> np.ndarray:
        """Return the class mask ``(*S)`` at a threshold of `GRID`; ``None`` for the most probable class."""
        if threshold is None:
            return self.most_probable.array
        passed = np.searchsorted(GRID, threshold) < self.level.array
        return np.where(passed, self.foreground.array, np.uint8(0))

    def without_unlikely(self, number: int, least: float, temperature: float = 1.0) -> MaskCase:
        """Return the case, with a class predicted nowhere if its label probability is below ``least``.

        Its ``dice`` stays what it was.

        Args:
            number: value of the class in the masks.
            least: smallest probability with which the class stays; a class without one stays.
            temperature: divides the logits of the label probability.
        """
        if math.isnan(self.likely[number - 1]) or tempered(self.likely[number - 1], temperature) >= least:
            return self
        kept = (np.where(of.array == number, np.uint8(0), of.array) for of in (self.most_probable, self.foreground))
        most_probable, foreground = map(Packed.of, kept)
        return replace(self, most_probable=most_probable, foreground=foreground)


def threshold_trial(cases: Sequence[MaskCase], classes: Mapping[int, str]) -> tuple[float | None, Trial | None]:
    """Try every threshold of `GRID` against the most probable class, by the mean Dice over classes and cases.

    Args:
        cases: with masks.
        classes: number 1..K -> name.

    Returns:
        the threshold, if there are `LEAST_CASES` cases with an object, it gains more than `LEAST_GAIN` and no class
        loses more than `HARM`; and what was tried.
    """
    if not cases:
        return None, None
    if (found := sum(case.has_object for case in cases)) < LEAST_CASES:
        return None, not_tried("threshold", f"{found} cases with an object; at least {LEAST_CASES} are needed", "mask")
    counted = np.stack([case.dice for case in cases])
    known = ~np.isnan(counted)
    per_class = np.where(known, counted, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    present = known.any(axis=(0, 1))
    if not present.any():
        return None, None
    best = int(np.argmax(per_class[1:, present].mean(axis=1)))
    before, after = (np.array([_mean(case.dice[row]) for case in cases]) for row in (0, 1 + best))
    trial = compared(
        "threshold", f"{GRID[best]:.2f}", "dice", before, after, [case.patient for case in cases], of="mask"
    )
    losses = np.where(present, per_class[0] - per_class[1 + best], 0)
    if trial.kept and losses.max() > HARM:
        name = list(classes.values())[int(losses.argmax())]
        trial = trial.model_copy(update={"kept": False, "why": f"{name} loses {losses.max():.3f}"})
    return (float(GRID[best]) if trial.kept else None), trial


def probability_trial(
    cases: Sequence[MaskCase], number: int, name: str, threshold: float | None, temperature: float
) -> tuple[float | None, Trial | None]:
    """Find the label probability below which the mask of a class is better left out.

    It is chosen from at least `LEAST_CASES` images with the class and as many without, by their Dice: distances are not
    defined where an object is removed. A class that is annotated nowhere and is removed has a Dice of 1. Of
    probabilities whose gain is within `LEAST_GAIN` of the highest the smallest is taken, which removes least.

    Args:
        cases: with masks.
        number: value of the class in the masks.
        name: name of the class.
        threshold: of the masks; see `MaskCase.mask`.
        temperature: divides the logits of the label probabilities.

    Returns:
        the probability, ``None`` if it gains too little; and what was tried, ``None`` if no case has a label
        probability of the class.
    """
    usable = [case for case in cases if case.known[number - 1] and not math.isnan(case.likely[number - 1])]
    if not usable:
        return None, None
    seen = [_Objects.of(case, number, threshold) for case in usable]
    present = sum(len(objects.annotated_mm) > 0 for objects in seen)
    if min(present, len(seen) - present) < LEAST_CASES:
        found = f"{present} cases with and {len(seen) - present} without it"
        return None, not_tried("min_probability", f"{found}; at least {LEAST_CASES} of each are needed", name)
    likely = tempered(np.array([case.likely[number - 1] for case in usable]), temperature)
    kept, removed = (np.array([of.score("dice", False, least) for of in seen]) for least in (0.0, math.inf))
    ordered = np.unique(likely)
    between = [float(f"{value:.3g}") for value in (ordered[1:] + ordered[:-1]) / 2]
    if not between:
        return None, not_tried("min_probability", "every case has the same label probability", name)
    found = [np.where(likely < least, removed, kept) for least in between]
    gains = np.array([_mean(after - kept) for after in found])
    mildest = int(np.argmax(gains >= np.nanmax(gains) - LEAST_GAIN["min_probability"]))
    least, after = between[mildest], found[mildest]
    patients = [case.patient for case in usable]
    trial = compared("min_probability", f"{least:g}", "dice", kept, after, patients, of=name)
    return (least if trial.kept else None), trial


def component_trials(
    cases: Sequence[MaskCase], number: int, name: str, metric: str, threshold: float | None, tried: Sequence[str]
) -> list[Trial]:
    """Try to keep only the largest component of a class, and then least object sizes.

    Args:
        cases: with masks.
        number: value of the class in the masks.
        name: name of the class.
        metric: metric of masks that decides.
        threshold: of the masks; see `MaskCase.mask`.
        tried: which of ``largest`` and ``min_size`` to try.

    Returns:
        one trial for each option that changes any prediction; ``value`` of ``min_size`` is the size.
    """
    seen = [_Objects.of(case, number, threshold) for case in cases if case.known[number - 1]]
    patients = [case.patient for case in cases if case.known[number - 1]]
    if not any(len(objects.sizes) for objects in seen):
        return []
    trials, largest = [], False

    def values(largest: bool, least: float) -> np.ndarray:
        """Metric of each case with these options."""
        return np.array([objects.score(metric, largest, least) for objects in seen])

    before = values(False, 0.0)
    if "largest" in tried and any(len(objects.sizes) > 1 for objects in seen):
        trials.append(compared("largest", "one component", metric, before, values(True, 0.0), patients, of=name))
        largest = trials[-1].kept
        before = values(largest, 0.0)
    if "min_size" in tried:
        found = [(least, values(largest, least)) for least in _candidates(seen)]
        changing = [one for one in found if not np.array_equal(one[1], before, equal_nan=True)]
        if changing:
            least, after = max(changing, key=lambda one: _mean(quality_of(metric, one[1]) - quality_of(metric, before)))
            trials.append(compared("min_size", f"{least:g}", metric, before, after, patients, of=name))
    return trials


def quality_of(metric: str, values: np.ndarray) -> np.ndarray:
    """Return values oriented such that more is better."""
    return np.array([quality(metric, float(value)) for value in values])


@dataclass(frozen=True)
class _Objects:
    """Components of one class in one case.

    Args:
        labels: number of the component of each voxel of ``window``.
        window: where the class is predicted.
        sizes: ``(n,)`` voxels of each component.
        reference: ``(*S)`` 1 in the annotated class, 255 where not annotated.
        geometry: grid of the image.
        annotated_mm: physical sizes of the annotated objects.
        scores: metric by metric and kept components; filled as it is asked for.
    """

    labels: np.ndarray
    window: tuple[slice, ...]
    sizes: np.ndarray
    reference: Packed
    geometry: Geometry
    annotated_mm: np.ndarray
    scores: dict[tuple[str, bytes], float]

    @classmethod
    def of(cls, case: MaskCase, number: int, threshold: float | None) -> _Objects:
        """Find the components of one class in a prediction, and those that are annotated."""
        predicted = case.mask(threshold) == number
        reference = case.reference.array
        own = np.where(reference == IGNORE, IGNORE, reference == number).astype(np.uint8)
        window = bounding_box(predicted)
        labels, count = connected_components(predicted[window])
        annotated, _ = connected_components(own == 1)
        sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
        annotated_mm = np.bincount(annotated.ravel())[1:] * case.geometry.voxel_volume
        return cls(labels, window, sizes, Packed.of(own), case.geometry, annotated_mm, {})

    def score(self, metric: str, largest: bool, least_mm: float) -> float:
        """Metric of the components that are kept; NaN where neither prediction nor annotation has the class.

        A class that is annotated nowhere and whose components were all removed has the best score: that is a gain.
        """
        kept = keeps(self.sizes, largest, least_mm / self.geometry.voxel_volume)
        key = metric, kept.tobytes()
        if key not in self.scores:
            reference = self.reference.array
            predicted = np.zeros(reference.shape, np.uint8)
            predicted[self.window] = np.append(False, kept)[self.labels]
            empty = not len(self.sizes) and not len(self.annotated_mm)
            self.scores[key] = math.nan if empty else _score(metric, predicted, reference, self.geometry.spacing_mm)
        return self.scores[key]


def _candidates(seen: Sequence[_Objects]) -> Iterator[float]:
    """Least sizes to try, in mm3 or mm2: `SIZES` of the median annotated object, to two digits."""
    annotated = np.concatenate([objects.annotated_mm for objects in seen])
    if len(annotated):
        yield from (float(f"{share * np.median(annotated):.1e}") for share in SIZES)


def _score(metric: str, predicted: np.ndarray, reference: np.ndarray, spacing_mm: tuple[float, ...]) -> float:
    if metric == "dice":
        return dice_of(predicted, reference, empty_policy="one")
    scores = segmentation_scores(predicted, reference, spacing_mm, {1: "object"}, empty_policy="one")
    return scores.get(metric, math.nan)


def dice_by_threshold(probabilities: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Compute the Dice of each class for the most probable class, and for each threshold of `GRID`.

    Args:
        probabilities: ``(K + 1, *S)``, background first.
        mask: ``(*S)``, annotated classes; 255 is not annotated.

    Returns:
        ``(1 + len(GRID), K)``; NaN where neither prediction nor annotation has the class.
    """
    known = mask != IGNORE
    values, truth = probabilities[:, known], mask[known]
    foreground, most_probable = values[1:].argmax(axis=0) + 1, values.argmax(axis=0)
    level = np.digitize(values[1:].max(axis=0), GRID)  # number of thresholds that the voxel passes
    classes = range(1, len(probabilities))
    rows = [[_dice(*_counts(most_probable == k, truth == k)) for k in classes]]
    predicted = np.stack([_passing(level[foreground == k]) for k in classes], axis=1)
    shared = np.stack([_passing(level[(foreground == k) & (truth == k)]) for k in classes], axis=1)
    sizes = np.array([np.count_nonzero(truth == k) for k in classes])
    swept = [
        [_dice(s, p, n) for s, p, n in zip(*row, sizes, strict=True)] for row in zip(shared, predicted, strict=True)
    ]
    return np.array(rows + swept)


def _counts(predicted: np.ndarray, truth: np.ndarray) -> tuple[int, int, int]:
    return int((predicted & truth).sum()), int(predicted.sum()), int(truth.sum())


def _passing(level: np.ndarray) -> np.ndarray:
    """Number of voxels that pass each threshold of `GRID`."""
    counts = np.bincount(level, minlength=len(GRID) + 1)
    return counts[::-1].cumsum()[::-1][1:]


def _dice(shared: int, predicted: int, truth: int) -> float:
    return 2 * shared / (predicted + truth) if predicted + truth else float("nan")


def _mean(values: np.ndarray) -> float:
    """Mean of the defined values; NaN if there are none."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else math.nan
