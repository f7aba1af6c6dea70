"""Choose the options of a model's predictions on cases that it was not trained on: validation, or out of fold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from cphloc.data.case import Case, strongest_rung
from cphloc.errors import InputError, did_you_mean
from cphloc.evaluation.comparison import paired_differences
from cphloc.evaluation.files import read_completed
from cphloc.evaluation.mask_calibration import mask_calibration
from cphloc.evaluation.mask_trials import (
    HARM,
    MaskCase,
    component_trials,
    probability_trial,
    threshold_trial,
)
from cphloc.evaluation.part_trials import box_trial, temperature_trial
from cphloc.evaluation.prediction import case_prediction
from cphloc.evaluation.scores import ScoredCase, Scores, detection_case, score_case
from cphloc.evaluation.size_errors import size_intervals
from cphloc.evaluation.trial import decided, not_tried
from cphloc.inference.localizer import Localizer
from cphloc.inference.mask_filter import label_probabilities
from cphloc.inference.uncertainty import with_masks
from cphloc.metrics.bootstrap import Difference
from cphloc.metrics.detection import DetectionCase
from cphloc.progress import track
from cphloc.registry import catalogue
from cphloc.registry.metrics import less_is_gain
from cphloc.structures.merging import of_part
from cphloc.structures.options import (
    FEWEST_PATIENTS,
    OPTIONS,
    ChosenOptions,
    OptionName,
    Options,
    Trial,
)
from cphloc.tracking.chosen import read_options, write_options
from cphloc.tracking.run import Run

MASK_METRICS = ("dice", "iou", "hd95_mm", "asd_mm", "nsd", "lesion_f1", "lesion_pq", "volume_error", "volume_error_ml")
"""Metrics of masks that can decide about components; of a model with another headline, ``dice`` decides."""


@dataclass
class Predictions:
    """Predictions and annotations of the cases that options are chosen on, with or without mirrored views.

    Args:
        localizer: a model that predicts some of them; its classes and recipe are those of all.
    """

    localizer: Localizer
    scored: list[ScoredCase] = field(default_factory=list)
    labels: list[tuple[np.ndarray, np.ndarray, str]] = field(default_factory=list)
    boxes: list[DetectionCase] = field(default_factory=list)
    masks: list[MaskCase] = field(default_factory=list)

    def add(self, localizer: Localizer, case: Case, rung: Any, tta: bool) -> None:
        """Predict a case and add the result.

        Args:
            localizer: model that was not trained on the case.
            case: the case.
            rung: strongest rung of all cases, see `Annotation.completed`.
            tta: whether to average mirrored views.
        """
        classes = localizer.classes
        volume, annotation = read_completed(case, localizer, rung)
        result, maps = localizer.predict_maps(volume, tta=tta)
        prediction = case_prediction(with_masks(result, maps, False), classes)
        tolerances = localizer.recipe.nsd_tolerance_mm
        scored = score_case(case.id, case.patient, prediction, annotation, volume.geometry, classes, tolerances)
        self.scored.append(scored)
        if result.probabilities is not None and annotation.label is not None:
            self.labels.append((np.array(list(result.probabilities.values())), annotation.label, case.patient))
        if maps is not None and annotation.mask is not None:
            likely = label_probabilities(classes, result.probabilities or {})
            of_case = volume.geometry, case.patient, annotation.mask_known, likely
            self.masks.append(MaskCase.of(maps, annotation.mask, *of_case))
        if (boxes := detection_case(prediction, annotation)) is not None:
            self.boxes.append(boxes)


def choose_options(
    pairs: Sequence[tuple[Localizer, Case]],
    split: Literal["val", "out-of-fold"] = "val",
    names: Sequence[OptionName] | None = None,
) -> ChosenOptions:
    """Try options, and keep those that gain.

    Each is compared with the same predictions without it, by the headline metric where the option affects it. Mirrored
    views come first, then temperature and thresholds, then the least label probability and the components of each
    class, each with what was kept before. With fewer than `FEWEST_PATIENTS` patients only the least score of boxes is
    chosen: there are many boxes in a case. The errors of measured sizes and the calibration of masks are computed, too.

    Args:
        pairs: each case with the model that predicts it and was not trained on it; the options that it has are
            ignored.
        split: where the cases come from, which is stored.
        names: which options to try; by default those that the recipe lists.

    Raises:
        InputError: there is no such option.
    """
    if not pairs:
        return ChosenOptions(split=split)
    localizer, cases = pairs[0][0], [case for _, case in pairs]
    patients = len({case.patient for case in cases})
    listed = localizer.recipe.options if names is None else names
    if unknown := [name for name in listed if name not in OPTIONS]:
        hint = did_you_mean(unknown[0], OPTIONS) or f"choose from {', '.join(OPTIONS)}"
        msg = f"there is no option '{unknown[0]}' of predictions; {hint}"
        raise InputError(msg)
    wanted: list[OptionName] = [name for name in OPTIONS if name in listed]
    few = f"patients: {patients}; at least {FEWEST_PATIENTS} are needed" if patients < FEWEST_PATIENTS else ""
    trials: list[Trial] = [not_tried(name, few) for name in wanted] if few else []
    if few and not ("threshold" in wanted and _predicts_boxes(localizer)):
        return ChosenOptions(trials=trials, split=split, cases=len(cases), patients=patients)
    views, refused = _views(localizer, wanted, bool(few))
    seen = _predicted(pairs, views)
    chosen: dict[str, Any] = {}
    if not few:
        trials += [not_tried("tta", refused)] if refused else []
        chosen["tta"] = _try_views(seen, trials) if len(views) > 1 else False
    used = seen[bool(chosen.get("tta"))]
    chosen |= _try_parts(used, wanted, trials, bool(few))
    options = Options(**chosen)
    sizes = None if few else size_intervals(used.masks, of_part(localizer.classes, "mask"), options)
    facts: dict[str, Any] = {"split": split, "cases": len(cases), "patients": patients}
    facts["calibration"] = mask_calibration(used.masks, of_part(localizer.classes, "mask"))
    return ChosenOptions(options=options, trials=trials, sizes=sizes, **facts)


def stored_or_chosen(
    run: Run,
    contents: Mapping[str, str],
    choose: Callable[[Sequence[OptionName] | None], ChosenOptions],
    again: bool | Sequence[OptionName] = False,
) -> ChosenOptions:
    """Return the options that were chosen for a run, or choose and store them.

    Args:
        run: the run.
        contents: id -> content hash of the cases to choose on; where they are not at hand, options that were chosen
            before are valid.
        choose: chooses them; its argument is ``names`` of `choose_options`.
        again: whether to choose them again in any case, or the names of those to try.
    """
    chosen = None if again and contents else read_options(run, contents or None)
    if chosen is not None:
        return chosen
    chosen = choose(None if isinstance(again, bool) else again)
    write_options(run, chosen, contents)
    return chosen


def _predicts_boxes(localizer: Localizer) -> bool:
    heads = localizer.recipe.model.heads.values()
    return any("boxes" in catalogue.card("head", head.type).gives for head in heads)


def _views(localizer: Localizer, wanted: Sequence[str], few: bool) -> tuple[list[bool], str]:
    """Whether to predict without and with mirrored views; and why they cannot be tried, if asked for."""
    if "tta" not in wanted or few:
        return [False], ""
    try:
        localizer.mirrored_axes()
    except InputError as error:
        return [False], str(error)
    return [False, True], ""


def _predicted(pairs: Iterable[tuple[Localizer, Case]], views: Sequence[bool]) -> dict[bool, Predictions]:
    """Predict every case once per entry of ``views``, with a temperature of 1."""
    pairs = list(pairs)
    rung = strongest_rung([case for _, case in pairs])
    seen = {tta: Predictions(pairs[0][0]) for tta in views}
    for localizer, case in track(pairs, "choosing options"):
        before, localizer.options = localizer.options, Options()
        try:
            for tta in views:
                seen[tta].add(localizer, case, rung, tta)
        finally:
            localizer.options = before
    return seen


def _try_views(seen: dict[bool, Predictions], trials: list[Trial]) -> bool:
    """Compare predictions with and without mirrored views by the headline metric."""
    localizer = seen[False].localizer
    plain, mirrored = (Scores(seen[tta].scored, localizer.classes) for tta in (False, True))
    metric, axes = localizer.recipe.headline, localizer.mirrored_axes()
    gains = paired_differences(mirrored, plain)
    if metric not in gains:
        trials.append(not_tried("tta", f"the cases have no {metric}"))
        return False
    oriented = {name: _oriented(name, gain) for name, gain in gains.items()}
    means = plain.values()[metric], mirrored.values()[metric]
    views = 2 ** len(axes)
    value = f"{views} views, axes {', '.join(map(str, axes))}"
    trial = decided("tta", value, metric, means, oriented[metric], time=float(views))
    worse = {name: -gain.value for name, gain in oriented.items() if name.startswith(f"{metric}/")}
    if trial.kept and max(worse.values(), default=0.0) > HARM:
        name = max(worse, key=lambda one: worse[one])
        trial = trial.model_copy(update={"kept": False, "why": f"{name} loses {worse[name]:.3f}"})
    trials.append(trial)
    return trial.kept


def _oriented(metric: str, gain: Difference) -> Difference:
    """Return the difference such that more is better."""
    if not less_is_gain(metric):
        return gain
    return gain._replace(value=-gain.value, low=-gain.high, high=-gain.low)


def _try_parts(used: Predictions, wanted: Sequence[str], trials: list[Trial], few: bool) -> dict[str, Any]:
    """Try all but mirrored views; returns what is kept, by field of `Options`."""
    chosen: dict[str, Any] = {"thresholds": {}}
    if "temperature" in wanted and used.labels and not few:
        chosen["temperature"], trial = temperature_trial(used.labels)
        trials.append(trial)
    if "threshold" in wanted:
        least, trial = box_trial(used.boxes, of_part(used.localizer.classes, "boxes"), used.localizer.recipe.dims)
        trials += [trial] if trial is not None else []
        chosen["thresholds"] |= {} if least is None else {"boxes": least}
        of_mask = of_part(used.localizer.classes, "mask")
        least, trial = (None, None) if few else threshold_trial(used.masks, of_mask)
        trials += [trial] if trial is not None else []
        chosen["thresholds"] |= {} if least is None else {"mask": least}
    if few:
        return chosen
    least = chosen["thresholds"].get("mask")
    if "min_probability" in wanted:
        chosen["min_probability"] = _probabilities(used, trials, least, chosen.get("temperature", 1.0))
    return chosen | _components(used, wanted, trials, least)


def _probabilities(
    used: Predictions, trials: list[Trial], threshold: float | None, temperature: float
) -> dict[str, float]:
    """Try a least label probability of each class, and remove the class from ``used.masks`` below one that is kept."""
    found = {}
    for number, name in of_part(used.localizer.classes, "mask").items():
        least, trial = probability_trial(used.masks, number, name, threshold, temperature)
        trials += [trial] if trial is not None else []
        if least is not None:
            found[name] = least
            used.masks = [case.without_unlikely(number, least, temperature) for case in used.masks]
    return found


def _components(
    used: Predictions, wanted: Sequence[str], trials: list[Trial], threshold: float | None
) -> dict[str, Any]:
    """Try components of each class; returns what is kept, by field of `Options`."""
    headline = used.localizer.recipe.headline
    metric = headline if headline in MASK_METRICS else "dice"
    largest, sizes = [], {}
    for number, name in of_part(used.localizer.classes, "mask").items() if used.masks else ():
        for trial in component_trials(used.masks, number, name, metric, threshold, wanted):
            trials.append(trial)
            if trial.kept and trial.option == "largest":
                largest.append(name)
            elif trial.kept:
                sizes[name] = float(trial.value)
    return {"largest": largest, "min_size": sizes, "unit": used.masks[0].geometry.unit if used.masks else "mm"}
