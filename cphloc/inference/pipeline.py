"""Pipelines: published models that run one after another, each on the image or on a crop around an earlier result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import numpy as np
from torch import nn

from cphloc.data.io.formats import case_name
from cphloc.errors import InputError
from cphloc.inference.backend import BackendName
from cphloc.inference.crops import crop_around, found_edges, onto_image
from cphloc.inference.ensemble import joined_facts
from cphloc.inference.inputs import Inputs
from cphloc.inference.localization import Localization
from cphloc.inference.localizer import Localizer, inputs_of
from cphloc.inference.model_display import entry_rows
from cphloc.inference.stage_outcome import StageOutcome
from cphloc.modeling.model import Model
from cphloc.modeling.staged import StagedModel
from cphloc.recipe.recipe import Recipe
from cphloc.recipe.stages import Stage
from cphloc.registry import catalogue
from cphloc.structures.display import Display, listed
from cphloc.structures.fingerprint import Fingerprint
from cphloc.structures.merging import MergedClasses, Merging, Part, of_part
from cphloc.structures.options import Options
from cphloc.structures.volume import Volume

_CARRIED: Mapping[str, Part] = {"boxes": "boxes", "probabilities": "labels"}
"""Parts of a result that an earlier stage gives where the last one does not, and the part of the classes they have."""


class Pipeline(Localizer):
    """The stages of a pipeline, with the interface of one model.

    The result is that of the last stage on the grid of the image, with the boxes and label probabilities of earlier
    stages where the last has none; `Localization.stages` states what each stage saw. The arguments of `predict` are
    those of `Localizer.predict`; ``tta``, ``threshold``, ``uncertainty`` and ``postprocess`` apply to the last stage,
    the others run as their entries do.

    Args:
        model: the networks of all stages.
        recipe: complete, with what the entries of its stages state.
        entry: the zoo entry that the pipeline comes from, if any.
        backend: runtime that computes the windows; see `cphloc.inference.backend`.
    """

    def __init__(
        self, model: StagedModel, recipe: Recipe, entry: Any | None = None, backend: BackendName = "torch"
    ) -> None:
        nn.Module.__init__(self)  # that of `Localizer` prepares images for a single network
        self.model = model.eval()
        self.recipe, self.entry, self.listing = recipe, entry, None
        self.weights_sha256 = None if entry is None else entry.weights.sha256
        self.classes = model.classes
        self.inputs = inputs_of(recipe, entry)
        self.stages = {name: _localizer(recipe, name, network, backend) for name, network in model.stages.items()}
        *_, self._last = self.stages
        self.options: Options = self.stages[self._last].options
        self.sizes = None

    def _display(self) -> Display:
        steps = [(name, f"{stage.frozen.entry}, on {stage.sees}") for name, stage in self.recipe.stages.items()]
        rows = [
            ("task", f"{self.recipe.last.task} in {self.recipe.dims}-D, by a pipeline"),
            ("takes", listed([f"{name}: {of.description}" for name, of in self.inputs.channels.items()])),
            ("classes", listed([f"{number} {name}" for number, name in self.classes.items()])),
            *steps,
            *entry_rows(self.entry),
        ]
        return Display(f"Pipeline {' '.join(self.made_by)}", rows)

    def mirrored_axes(self) -> tuple[int, ...]:
        """Return the axes along which test-time augmentation mirrors what the last stage sees.

        Raises:
            InputError: as `Localizer.mirrored_axes`.
        """
        return self.stages[self._last].mirrored_axes()

    def swapped_classes(self) -> dict[int, int]:
        """Return the classes of the last stage that change places in an image mirrored left-right."""
        return self.stages[self._last].swapped_classes()

    def predict_maps(self, volume: Volume, **options: Any) -> NoReturn:
        """Refuse: the class probabilities of a pipeline are known inside its last crop only.

        Raises:
            InputError: always.
        """
        msg = f"{self.made_by[0]} is a pipeline, which cannot be averaged with other models; predict with it alone"
        raise InputError(msg)

    def predict_within(self, volume: Volume, edges: np.ndarray | None, threshold: Mapping[str, float]) -> Localization:
        """Predict with the last stage alone, in its crop around a given region instead of the one that was found.

        Args:
            volume: the image, from `read`.
            edges: ``(2, D)`` lower and upper edges of the region in voxels; ``None`` for the whole image.
            threshold: least score of ``boxes`` and least probability of a ``mask``.
        """
        used = self.options.model_copy(update={"thresholds": dict(threshold)})
        crop = self.recipe.stages[self._last].crop
        seen = _Seen(*_whole(volume))
        if edges is not None and crop is not None:
            seen = _Seen(*crop_around(edges, crop, volume.geometry))
        result, _ = self._predicted(self._last, volume, seen, used)
        return onto_image(result, volume, seen.start).applying(used)

    def _localized(self, volume: Volume, used: Options, uncertainty: bool, **options: Any) -> Localization:
        """Run the stages in order, and join what they found on the grid of the image."""
        results: dict[str, Localization] = {}
        outcomes: list[StageOutcome] = []
        others = {key: value for key, value in options.items() if key != "tta"}
        for name, stage in self.recipe.stages.items():
            seen, warnings = self._seen(stage, results, volume), ()
            if seen.runs and name == self._last:
                own = {**options, "uncertainty": uncertainty}
                results[name], warnings = self._predicted(name, volume, seen, used, **own)
            elif seen.runs:
                results[name], warnings = self._predicted(name, volume, seen, **others)
            if name in results:
                results[name] = onto_image(results[name], volume, seen.start)
            facts = seen.start, seen.shape, seen.missed, seen.why, warnings
            outcomes.append(StageOutcome(name, stage.frozen.entry, seen.runs, *facts))
        return replace(
            self._joined(results, volume, uncertainty),
            model=self.made_by,
            models=(self.identity,),
            stages=tuple(outcomes),
            warnings=tuple(warning for outcome in outcomes for warning in outcome.warnings),
        )

    def _seen(self, stage: Stage, results: Mapping[str, Localization], volume: Volume) -> _Seen:
        """Determine what a stage sees, and whether it runs, from the results of earlier stages."""
        whole = _whole(volume)
        for earlier in (stage.when, stage.crop):
            if earlier is not None and earlier.stage not in results:
                return _Seen(*whole, runs=False, why=f"'{earlier.stage}' did not run")
        if (when := stage.when) is not None:
            probability = (results[when.stage].probabilities or {})[when.label]
            if probability < when.at_least:
                why = f"the probability of {when.label} is {probability:.3f}, less than {when.at_least:g}"
                return _Seen(*whole, runs=False, why=why)
        if (crop := stage.crop) is None:
            return _Seen(*whole)
        edges = found_edges(results[crop.stage], crop, self.stages[crop.stage].options.thresholds.get("boxes"))
        if edges is not None:
            return _Seen(*crop_around(edges, crop, volume.geometry))
        runs = crop.missing == "whole"
        why = f"'{crop.stage}' found nothing, so it {'sees the whole image' if runs else 'does not run'}"
        return _Seen(*whole, runs=runs, missed=True, why=why)

    def _predicted(
        self,
        name: str,
        volume: Volume,
        seen: _Seen,
        used: Options | None = None,
        uncertainty: bool = False,
        **options: Any,
    ) -> tuple[Localization, tuple[str, ...]]:
        """Run a stage on its part of the image; also returns warnings.

        Args:
            name: the stage.
            volume: the whole image.
            seen: the part.
            used: options of the last stage; ``None`` for those of the entry, but with all boxes, of which crops choose.
            uncertainty: see `Localizer.predict`.
            options: further arguments of `Localizer.predict`.
        """
        localizer, crop = self.stages[name], self.recipe.stages[name].crop
        part = volume.crop(seen.start, seen.shape)
        reading = localizer.inputs.read(_channels(part, list(self.inputs.channels), list(localizer.inputs.channels)))
        result = localizer._localized(reading.volume, used or localizer.options, uncertainty, **options)
        if used is None:
            thresholds = {**localizer.options.thresholds, "boxes": 0.0}
            result = result.applying(localizer.options.model_copy(update={"thresholds": thresholds}))
        warnings = [*reading.warnings]
        if crop is not None and volume.geometry.unit == "px":
            warnings.append(f"the image has no voxel size, so the margin is {crop.margin_mm:g} pixels")
        return result, tuple(f"{name}: {warning}" for warning in warnings)

    def _joined(self, results: Mapping[str, Localization], volume: Volume, uncertainty: bool) -> Localization:
        """Return the result of the last stage, with parts of earlier stages that it does not have."""
        result = results.get(self._last) or _nothing(self.stages[self._last], volume, uncertainty)
        classes: Mapping[int, str] = result.classes
        for stage, earlier in reversed(list(results.items())):
            for name, part in _CARRIED.items():
                if getattr(result, name) is None and getattr(earlier, name) is not None:
                    least = self.stages[stage].options.thresholds.get("boxes", 0.0)
                    outlines = earlier.outlines if name == "boxes" else result.outlines
                    result = replace(result, **{name: _shown(getattr(earlier, name), least), "outlines": outlines})
                    classes = _with_part(classes, part, of_part(earlier.classes, part))
        computed = joined_facts([one.computed for one in results.values()])
        return replace(result, classes=classes, computed=computed)


@dataclass(frozen=True)
class _Seen:
    """What a stage sees of an image.

    Args:
        start: first voxel.
        shape: number of voxels per axis.
        runs: whether the stage runs.
        missed: whether the stage that its crop encloses has found nothing.
        why: remark, where it does not run or sees the whole image although it has a crop.
    """

    start: tuple[int, ...]
    shape: tuple[int, ...]
    runs: bool = True
    missed: bool = False
    why: str = ""


def localizer_of_recipe(
    model: Model, recipe: Recipe, entry: Any | None = None, backend: BackendName = "torch"
) -> Localizer:
    """Return the model of a recipe ready to predict: a `Pipeline` where the recipe has stages, else a `Localizer`.

    Args:
        model: with trained weights.
        recipe: its recipe.
        entry: the zoo entry that it comes from, if any.
        backend: see `Localizer`.
    """
    if isinstance(model, StagedModel):
        return Pipeline(model, recipe, entry, backend)
    return Localizer(model, recipe, entry, backend)


def _localizer(recipe: Recipe, name: str, network: Model, backend: BackendName) -> Localizer:
    """Model of one stage, which takes and applies what its entry states."""
    stored = recipe.stages[name].frozen
    localizer = Localizer(network, recipe.stage_recipes[name], None, backend)
    channels = {channel: of.channel for channel, of in stored.inputs.items()}
    known = None if stored.fingerprint is None else Fingerprint.model_validate(stored.fingerprint)
    localizer.inputs = Inputs(channels, recipe.dims, known)
    localizer.options = stored.applies
    return localizer


def _whole(volume: Volume) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return (0,) * volume.dims, volume.geometry.shape


def _channels(volume: Volume, given: Sequence[str], taken: Sequence[str]) -> Volume:
    """Return the channels that a stage takes; a grey picture stands for all channels."""
    if list(given) == list(taken):
        return volume
    places = [min(given.index(name), volume.channels - 1) for name in taken]
    return replace(volume, array=volume.array[places])


def _nothing(localizer: Localizer, volume: Volume, uncertainty: bool) -> Localization:
    """Result of a stage that did not run: no object anywhere."""
    heads = localizer.recipe.model.heads.values()
    gives = {part for head in heads for part in catalogue.card("head", head.type).gives}
    shape, labels = volume.geometry.shape, of_part(localizer.classes, "labels").values()
    return Localization(
        volume,
        localizer.classes,
        masks=np.zeros(shape, np.uint8) if "mask" in gives else None,
        boxes=[] if "boxes" in gives else None,
        outlines="objects" in gives,
        attention=np.full(shape, 1 / np.prod(shape), np.float32) if "attention" in gives else None,
        probabilities=dict.fromkeys(labels, 0.0) if "labels" in gives else None,
        uncertainty=np.zeros(shape, np.float32) if uncertainty else None,
        case=case_name(volume.source),
    )


def _shown(part: Any, least: float) -> Any:
    """Boxes whose score reaches the threshold of their stage; other parts are returned unchanged."""
    return [box for box in part if box.score >= least] if isinstance(part, list) else part


def _with_part(classes: Mapping[int, str], part: Part, own: Mapping[int, str]) -> Mapping[int, str]:
    """Return classes in which one part has classes of its own."""
    if of_part(classes, part) == own:
        return classes
    merged = classes.merged if isinstance(classes, MergedClasses) else {}
    return MergedClasses(classes, {**merged, part: Merging(own, {})})
