"""Several models that answer as one, and how sure they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Unpack, overload

import numpy as np
import torch

from cphloc.errors import InputError
from cphloc.inference.localization import Box, Localization
from cphloc.inference.localizer import Image, Localizer, PredictOptions
from cphloc.inference.uncertainty import with_masks
from cphloc.inference.windows import AGREE_IOU
from cphloc.ops.weighted_box_clustering import weighted_box_clustering
from cphloc.recipe.recipe import Recipe
from cphloc.structures.geometry import Geometry


class Ensemble:
    """Models for the same task whose predictions are averaged on the image's own grid, whatever grid each works on.

    Class probabilities of voxels, label probabilities and attention are averaged; boxes that overlap are merged by
    weighted box clustering, where a box that some members did not find loses score.

    Args:
        members: one or more models.

    Raises:
        InputError: there is none, or they differ in task, number of axes, channels or classes.
    """

    def __init__(self, members: Sequence[Localizer]) -> None:
        if not members:
            msg = "an ensemble needs at least one model"
            raise InputError(msg)
        self.members = tuple(members)
        first, *others = members
        for other in others:
            for what, of in _AGREE.items():
                if of(first) != of(other):
                    msg = f"models of an ensemble need the same {what}; these have {of(first)} and {of(other)}"
                    raise InputError(msg)
        self.classes = first.classes

    @property
    def recipe(self) -> Recipe:
        """The recipe of the first member, which agrees with the others in task, axes and channels."""
        return self.members[0].recipe

    def mirrored_axes(self) -> tuple[int, ...]:
        """Axes that all members can be mirrored along; raises as `Localizer.mirrored_axes` does."""
        return tuple(sorted(set.intersection(*(set(member.mirrored_axes()) for member in self.members))))

    @overload
    def predict(
        self, source: Image, spacing_mm: Sequence[float] | None = None, **options: Unpack[PredictOptions]
    ) -> Localization: ...

    @overload
    def predict(
        self, source: Sequence[Image], spacing_mm: Sequence[float] | None = None, **options: Unpack[PredictOptions]
    ) -> list[Localization]: ...

    def predict(
        self,
        source: Image | Sequence[Image],
        spacing_mm: Sequence[float] | None = None,
        *,
        tta: bool = False,
        overlap: float = 0.5,
        skip_air: bool = True,
        uncertainty: bool = False,
        progress: Callable[[Iterable], Iterable] = iter,
    ) -> Localization | list[Localization]:
        """Localize in one image, or in each of a list; see `Localizer.predict`, which has the same arguments.

        Masks take ``4 (K + 1)`` bytes for every voxel of the image, twice.

        Raises:
            DataError, InputError: as `Localizer.predict`; ``uncertainty`` of models that predict no mask.
        """
        options = {"tta": tta, "overlap": overlap, "skip_air": skip_air, "progress": progress}
        if isinstance(source, Sequence) and not isinstance(source, str):
            return [self.predict(s, spacing_mm, uncertainty=uncertainty, **options) for s in source]
        volume = self.members[0].read(source, spacing_mm)
        results, total = [], None
        for member in self.members:
            result, maps = member.predict_maps(volume, **options)
            results.append(result)
            if maps is not None:
                total = maps if total is None else total + maps
        found = self._joined(results)
        return with_masks(found, total, uncertainty)

    def _joined(self, results: Sequence[Localization]) -> Localization:
        """Everything but masks, averaged or merged."""
        first = results[0]
        if len(results) == 1:
            return first
        joined: dict[str, Any] = {"computed": _computed([result.computed for result in results])}
        if first.probabilities is not None:
            mean = {name: float(np.mean([r.probabilities[name] for r in results])) for name in first.probabilities}
            joined["probabilities"] = mean
        if first.attention is not None:
            joined["attention"] = np.mean([r.attention for r in results], axis=0)
        if first.boxes is not None:
            joined["boxes"] = _merged([r.boxes for r in results], self.classes, first.image.geometry)
        return replace(first, **joined)


_AGREE: dict[str, Callable[[Localizer], Any]] = {
    "task": lambda model: model.recipe.task,
    "dims": lambda model: model.recipe.dims,
    "channels": lambda model: list(model.recipe.channels),
    "classes": lambda model: model.classes,
}


def _computed(made: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How all members were computed: every backend, the largest difference, whether any left air out."""
    return {
        "backend": ", ".join(dict.fromkeys(one["backend"] for one in made)),
        "difference": max(one["difference"] or 0.0 for one in made),
        "air_skipped": any(one["air_skipped"] for one in made),
    }


def _merged(found: Sequence[Sequence[Box]], classes: dict[int, str], grid: Geometry) -> list[Box]:
    boxes = [box for of_member in found for box in of_member]
    if not boxes:
        return []
    numbers = {name: number for number, name in classes.items()}
    merged = weighted_box_clustering(
        torch.tensor([box.voxels for box in boxes]),
        torch.tensor([box.score for box in boxes]),
        torch.tensor([numbers[box.name] for box in boxes]),
        torch.full((len(boxes),), len(found)),
        threshold=AGREE_IOU,
    )
    voxels = merged.boxes.numpy().astype(float)
    rows = zip(merged.classes.tolist(), merged.scores.tolist(), voxels, grid.boxes_to_world(voxels), strict=True)
    return [Box(classes[number], score, tuple(v.tolist()), tuple(mm.tolist()), number) for number, score, v, mm in rows]
