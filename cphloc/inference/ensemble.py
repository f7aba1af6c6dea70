"""Ensembles: average the predictions of several models."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Unpack, overload

import numpy as np
import torch

from cphloc.errors import InputError
from cphloc.inference.inputs import Image, content_hashes
from cphloc.inference.localization import Box, Localization
from cphloc.inference.localizer import Localizer
from cphloc.inference.model_display import model_display
from cphloc.inference.options import PredictOptions, overridden
from cphloc.inference.uncertainty import with_masks
from cphloc.inference.windows import AGREE_IOU
from cphloc.ops.boxes import overlap
from cphloc.ops.weighted_box_clustering import weighted_box_clustering
from cphloc.progress import track
from cphloc.recipe.recipe import Recipe
from cphloc.structures.display import Display, Displayed, listed
from cphloc.structures.geometry import Geometry
from cphloc.structures.instances import ObjectMask
from cphloc.structures.merging import of_part
from cphloc.structures.options import Options, shared_options


class Ensemble(Displayed):
    """Averages the predictions of several models for the same task, on the image's own grid.

    The members may work on different grids. Class probabilities of voxels, label probabilities and attention are
    averaged; boxes that overlap are merged by weighted box clustering, which lowers the score of a box that only some
    members predict.

    Args:
        members: one or more models.

    Raises:
        InputError: there are no members, or they differ in task, dimensions, channels or classes.
    """

    def __init__(self, members: Sequence[Localizer]) -> None:
        if not members:
            msg = "an ensemble needs at least one model"
            raise InputError(msg)
        self.members = tuple(members)
        first, *others = members
        for other in others:
            for what, of in _MUST_AGREE.items():
                if of(first) != of(other):
                    msg = f"the models of an ensemble must have the same {what}, got {of(first)} and {of(other)}"
                    raise InputError(msg)
        self.classes = first.classes
        self.inputs = replace(first.inputs, others=tuple(other.inputs.fingerprint for other in others))

    @property
    def recipe(self) -> Recipe:
        """Recipe of the first member; all members have the same task, dimensions and channels."""
        return self.members[0].recipe

    def _display(self) -> Display:
        rows = [("members", listed([" ".join(member.made_by) for member in self.members]))]
        title = f"Ensemble of {len(self.members)} models"
        return model_display(title, self.recipe, self.inputs, self.classes, self.options, rows)

    def check_options(self, **options: Unpack[PredictOptions]) -> None:
        """Check the options of `predict` before anything is computed.

        Raises:
            InputError: as `predict`.
        """
        for member in self.members:
            member.check_options(**options)

    def mirrored_axes(self) -> tuple[int, ...]:
        """Return the axes along which test-time augmentation may mirror the image for all members.

        Raises:
            InputError: as `Localizer.mirrored_axes`.
        """
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
        tta: bool | None = None,
        overlap: float | None = None,
        window_batch: int = 1,
        skip_air: bool = True,
        uncertainty: bool = False,
        units: Mapping[str, str] | None = None,
        strict: bool = False,
        threshold: float | Mapping[str, float] | None = None,
        postprocess: bool = True,
        progress: Callable[[Iterable], Iterable] = iter,
    ) -> Localization | list[Localization]:
        """Predict one image, or each of a list of images; the arguments are those of `Localizer.predict`.

        Masks need ``8 (K + 1)`` bytes per voxel of the image.

        Raises:
            DataError: as `Localizer.predict`.
            InputError: as `Localizer.predict`, or ``uncertainty`` for models that do not predict masks.
        """
        options = {"tta": tta, "overlap": overlap, "skip_air": skip_air, "progress": progress}
        options |= {"window_batch": window_batch}
        if isinstance(source, Sequence) and not isinstance(source, str):
            options |= {"uncertainty": uncertainty, "threshold": threshold, "units": units, "strict": strict}
            images = track(source, "predicting")
            return [self.predict(s, spacing_mm, postprocess=postprocess, **options) for s in images]
        used = overridden(self.options, tta, threshold, postprocess)
        reading = self.inputs.read(source, spacing_mm, units, strict)
        volume = reading.volume
        results, total = [], None
        for member in self.members:
            result, maps = member.predict_maps(volume, **options)
            results.append(result)
            if maps is not None:
                total = maps if total is None else total + maps
        read = {"inputs": reading.channels, "warnings": reading.warnings, "input_sha256": content_hashes(source)}
        joined = replace(self._joined(results), **read)
        if total is not None and "mask" in used.thresholds:
            total = total / len(self.members)
        return with_masks(joined, total, uncertainty, used.thresholds.get("mask")).applying(used)

    @property
    def options(self) -> Options:
        """What all members apply, with the mean of their thresholds and sizes; see `shared_options`."""
        return shared_options([member.options for member in self.members])

    @property
    def thresholds(self) -> dict[str, float]:
        """Mean threshold of the members, for the parts of which all members have one."""
        return {str(part): least for part, least in self.options.thresholds.items()}

    def _joined(self, results: Sequence[Localization]) -> Localization:
        """Average or merge all parts of the results except masks."""
        first = results[0]
        if len(results) == 1:
            return first
        names, versions = zip(*(result.model for result in results), strict=True)
        joined: dict[str, Any] = {
            "computed": joined_facts([result.computed for result in results]),
            "model": (" + ".join(names), " + ".join(versions)),
            "models": tuple(one for result in results for one in result.models),
        }
        probabilities = [r.probabilities for r in results if r.probabilities is not None]
        if probabilities:
            joined["probabilities"] = {
                name: float(np.mean([p[name] for p in probabilities])) for name in probabilities[0]
            }
        attention = [r.attention for r in results if r.attention is not None]
        if attention:
            joined["attention"] = np.mean(attention, axis=0)
        boxes = [r.boxes for r in results if r.boxes is not None]
        if boxes:
            joined["outlines"] = all(r.outlines for r in results if r.boxes is not None)
            joined["boxes"] = _merged(boxes, of_part(self.classes, "boxes"), first.image.geometry)
        return replace(first, **joined)


_MUST_AGREE: dict[str, Callable[[Localizer], Any]] = {
    "task": lambda model: model.recipe.task,
    "dims": lambda model: model.recipe.dims,
    "channels": lambda model: list(model.recipe.channels),
    "units": lambda model: {name: str(channel.unit) for name, channel in model.inputs.channels.items()},
    "classes": lambda model: model.classes,
}


def joined_facts(members: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Join `Localization.computed` of all members: all backends, largest difference, whether any skipped air."""
    return {
        "backend": ", ".join(dict.fromkeys(member["backend"] for member in members)),
        "difference": max((member["difference"] or 0.0 for member in members), default=0.0),
        "air_skipped": any(member["air_skipped"] for member in members),
    }


def _merged(members: Sequence[Sequence[Box]], classes: Mapping[int, str], grid: Geometry) -> list[Box]:
    """Merge the boxes of all members by weighted box clustering."""
    boxes = [box for of_member in members for box in of_member]
    if not boxes:
        return []
    numbers = {name: number for number, name in classes.items()}
    merged = weighted_box_clustering(
        torch.tensor([box.voxels for box in boxes]),
        torch.tensor([box.score for box in boxes]),
        torch.tensor([numbers[box.name] for box in boxes]),
        torch.full((len(boxes),), len(members)),
        threshold=AGREE_IOU,
    )
    voxels = merged.boxes.numpy().astype(float)
    rows = zip(merged.classes.tolist(), merged.scores.tolist(), voxels, grid.boxes_to_world(voxels), strict=True)
    joined = [Box(classes[n], score, tuple(v.tolist()), tuple(mm.tolist()), n) for n, score, v, mm in rows]
    return [replace(box, mask=_outline(box, boxes)) for box in joined]


def _outline(merged: Box, boxes: Sequence[Box]) -> ObjectMask | None:
    """Voxels of the object by the member that is surest of it, of the boxes of its class that overlap enough.

    Where none does, because several boxes were merged, those of the box that overlaps most.
    """
    outlined = [box for box in boxes if box.mask is not None and box.name == merged.name]
    if not outlined:
        return None
    iou = overlap(torch.tensor(merged.voxels), torch.tensor([box.voxels for box in outlined]))
    agree = [box for box, value in zip(outlined, iou.tolist(), strict=True) if value > AGREE_IOU]
    return max(agree, key=lambda box: box.score).mask if agree else outlined[int(iou.argmax())].mask
