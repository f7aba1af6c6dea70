"""A trained model applied to real images: any input in, a `Localization` in the input's own coordinates out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack, overload

import numpy as np
from torch import Tensor, nn

from cphloc.data.io.formats import IMAGE_SUFFIXES
from cphloc.data.io.read import (
    Channel,
    read_volume,
)
from cphloc.data.pipeline.intensity import CT, parse_intensity
from cphloc.data.pipeline.preprocess import Preprocess, restore_attention, restore_boxes, restore_map
from cphloc.data.pipeline.slabs import MaskRows, Slabs
from cphloc.errors import DataError, InputError
from cphloc.inference.backend import Backend, BackendName
from cphloc.inference.localization import Box, Localization
from cphloc.inference.uncertainty import with_masks
from cphloc.inference.windows import Air, Emit, infer
from cphloc.metrics.calibration import tempered
from cphloc.modeling.model import Model
from cphloc.ops.targets import Detections, Prediction
from cphloc.structures.geometry import Geometry
from cphloc.structures.volume import Volume

if TYPE_CHECKING:
    from cphloc.recipe.recipe import Recipe

Image = Channel | Mapping[str, Channel]
"""One image: a file, a DICOM folder, an array, or for several channels a mapping from channel name to one of these."""


class PredictOptions(TypedDict, total=False):
    """Keyword arguments of `Localizer.predict`, which describes them."""

    tta: bool
    overlap: float
    skip_air: bool
    uncertainty: bool
    progress: Callable[[Iterable], Iterable]


AIR_HU = -700.0
"""Nothing below this many Hounsfield units is tissue: lung, the lightest, is crossed by vessels in every window."""
ROUNDING = 1e-4
"""By how much resampling may change a voxel amidst equal ones, in units of the model's input."""


class Localizer(nn.Module):
    """A model together with what it expects of an image; what `cphloc.load` returns.

    Args:
        model: with trained weights.
        recipe: complete, with the constants of its intensity schemes.
        entry: the zoo entry it comes from, if any.
        backend: what computes windows; see `cphloc.inference.backend`.
    """

    def __init__(self, model: Model, recipe: Recipe, entry: Any | None = None, backend: BackendName = "torch") -> None:
        super().__init__()
        self.model = model.eval()
        self.backend = Backend(self.model, backend)
        self.recipe = recipe
        self.entry = entry
        self.classes: dict[int, str] = dict(next(iter(model.heads.values())).classes)
        self.preprocess = preprocess_of(recipe)
        self.temperature: float = 1.0 if entry is None or entry.calibration is None else entry.calibration.temperature

    def forward(self, x: Tensor) -> Any:
        """Raw output of the model for ``(N, C, *S)`` images that are already preprocessed."""
        return self.model(x)

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
        """Localize in one image, or in each of a list of images.

        Peak memory of a mask model does not depend on the number of slices but for the image as it is read and its
        mask of one byte a voxel (two, where it is mirrored): besides those it is ``4 (C + K + 2)`` bytes for each
        voxel of as many slices as a window has, and what the network takes for one window. An intensity scheme that
        looks at the whole image (``zscore``) adds ``4 C`` bytes a voxel; attention adds 4.

        Args:
            source: a file (NIfTI, NRRD, MetaImage, DICOM, PNG, JPEG, TIFF, npy), a DICOM folder, a NumPy array
                ``(*S)`` or ``(C, *S)``, or a mapping from channel name to these; or a list of such images.
            spacing_mm: voxel size in array order, for arrays and pictures, which state none.
            tta: average over views mirrored as in training; refused where classes are sides of the body, and for a
                model that never saw a mirrored image.
            overlap: share of a window that its neighbour covers too, in [0, 1).
            skip_air: for models of CT (intensity ``ct``), compute nothing where no voxel exceeds `AIR_HU`, and call
                it background. A window of which that is true holds no tissue that could be a finding.
            uncertainty: also give the entropy of the class probabilities of every voxel, which takes
                ``4 (K + 1)`` bytes more a voxel.
            progress: wraps each list of windows that begin at the same slice, to show a progress bar.

        Raises:
            DataError: the image cannot be read or does not suit the model.
            InputError: ``tta`` for a model that knows left from right, or was not trained on mirrored images; an
                ``overlap`` outside its range.
        """
        options = {"tta": tta, "overlap": overlap, "skip_air": skip_air, "progress": progress}
        if isinstance(source, Sequence) and not isinstance(source, str):
            return [self.predict(s, spacing_mm, uncertainty=uncertainty, **options) for s in source]
        volume = self.read(source, spacing_mm)
        if uncertainty:
            return with_masks(*self.predict_maps(volume, **options), uncertainty=True)
        slabs = Slabs(self.preprocess, volume)
        masks: dict[str, MaskRows] = defaultdict(lambda: MaskRows(slabs.geometry, volume.geometry))
        found, facts = self._infer(slabs, lambda head, first, logits: masks[head].take(first, logits), **options)
        result = _localization(found, masks, volume, slabs.geometry, self.classes)
        return self._calibrated(replace(result, computed=facts))

    def predict_maps(self, volume: Volume, **options: Any) -> tuple[Localization, np.ndarray | None]:
        """`predict` of an image that was read, and instead of its mask the class probabilities behind it.

        Args:
            volume: as `read` gives it.
            options: those of `predict` but ``spacing_mm`` and ``uncertainty``.

        Returns:
            the result without mask, and ``(K + 1, *S)`` on the image's own grid; ``None`` for a model without masks.
        """
        slabs = Slabs(self.preprocess, volume)
        found, facts = self._infer(slabs, None, **options)
        result = self._calibrated(_localization(found, {}, volume, slabs.geometry, self.classes))
        maps = [p.mask_probabilities[0].cpu().numpy() for p in found.values() if p.mask_probabilities is not None]
        whole = restore_map(slabs.geometry, volume.geometry, maps[0]) if maps else None
        return replace(result, computed=facts), whole

    def _infer(
        self,
        slabs: Slabs,
        emit: Emit | None,
        *,
        tta: bool = False,
        overlap: float = 0.5,
        skip_air: bool = True,
        progress: Callable[[Iterable], Iterable] = iter,
    ) -> tuple[dict[str, Prediction], dict[str, Any]]:
        """Predictions on the model's grid, and how they were computed."""
        if not 0 <= overlap < 1:
            msg = f"overlap is a share of a window, at least 0 and below 1, got {overlap}"
            raise InputError(msg)
        mirror = self.mirrored_axes() if tta else ()
        air = air_of(self.preprocess) if skip_air else None
        patch = self.recipe.data.patch
        found = infer(self.model, slabs, patch, overlap, mirror, progress, forward=self.backend, air=air, emit=emit)
        return found, {**self.backend.facts, "air_skipped": air is not None}

    def _calibrated(self, result: Localization) -> Localization:
        """Label probabilities as the entry's calibration states them."""
        if result.probabilities is None or self.temperature == 1:
            return result
        stated = tempered(np.array(list(result.probabilities.values())), self.temperature)
        return replace(result, probabilities=dict(zip(result.probabilities, stated.tolist(), strict=True)))

    def mirrored_axes(self) -> tuple[int, ...]:
        """Axes that training flipped, which views may be mirrored along.

        Raises:
            InputError: the model knows left from right, or was not trained on mirrored images.
        """
        if self.recipe.laterality:
            msg = "tta mirrors the image, but this model tells left from right; predict without it"
            raise InputError(msg)
        dims = self.recipe.dims
        flips = [block.args.get("axes") for block in self.recipe.data.augment if block.type == "Flip"]
        axes = {axis % dims for flipped in flips for axis in (range(dims) if flipped is None else flipped)}
        if not axes:
            msg = "tta mirrors the image, but this model was trained without Flip; predict without it"
            raise InputError(msg)
        return tuple(sorted(axes))

    def read(self, source: Image, spacing_mm: Sequence[float] | None = None) -> Volume:
        """Read an image of the model's channels and axes; raises as `predict` does."""
        names = self.recipe.channels
        if isinstance(source, Mapping):
            if sorted(source) != sorted(names):
                msg = f"the model takes the channels {', '.join(names)}, got {', '.join(source)}; name each of them"
                raise DataError(msg)
            channels = [source[name] for name in names]
            return read_volume(channels if len(names) > 1 else channels[0], spacing_mm, dims=self.recipe.dims)
        return read_volume(source, spacing_mm, dims=self.recipe.dims)


def preprocess_of(recipe: Recipe) -> Preprocess:
    """What a recipe does to every image before the model sees it."""
    data = recipe.to_plain()["data"]
    spacing = None if data["spacing_mm"] is None else tuple(data["spacing_mm"])
    fit = tuple(data["patch"]) if data["fit"] == "whole" else None
    return Preprocess(recipe.dims, spacing, parse_intensity(data["intensity"], len(recipe.channels)), fit)


def air_of(preprocess: Preprocess) -> Air | None:
    """Where an image of CT holds air, in the values that the model takes; ``None`` for other images."""
    for channel, scheme in enumerate(preprocess.intensity):
        if isinstance(scheme, CT):
            return Air(channel, float(scheme(np.array([AIR_HU]))[0]) + ROUNDING)
    return None


def _localization(
    found: Mapping[str, Prediction],
    masks: Mapping[str, MaskRows],
    volume: Volume,
    prepared: Geometry,
    classes: Mapping[int, str],
) -> Localization:
    """Bring the heads' predictions back onto the image's own grid, and join them."""
    original = volume.geometry
    parts: dict[str, Any] = {}
    for name, prediction in found.items():
        mask = {"masks": masks[name].mask()} if name in masks else {}
        for part, value in (mask | _restored(prediction, prepared, original, classes)).items():
            if part in parts:
                msg = f"two heads predict {part}, the second is '{name}'; a recipe may have one head of each kind"
                raise InputError(msg)
            parts[part] = value
    extra = {key: value[0].tolist() for p in found.values() for key, value in p.extra.items()}
    return Localization(volume, classes, **parts, extra=extra, case=case_name(volume.source))


def _restored(
    prediction: Prediction, prepared: Geometry, original: Geometry, classes: Mapping[int, str]
) -> dict[str, Any]:
    parts: dict[str, Any] = {}
    if prediction.detections is not None:
        parts["boxes"] = _boxes(prediction.detections[0], prepared, original, classes)
    if prediction.attention is not None:
        parts["attention"] = restore_attention(prepared, original, prediction.attention[0].cpu().numpy())
    if prediction.label_probabilities is not None:
        values = prediction.label_probabilities[0].tolist()
        parts["probabilities"] = {classes[number]: value for number, value in enumerate(values, start=1)}
    return parts


def _boxes(found: Detections, prepared: Geometry, original: Geometry, classes: Mapping[int, str]) -> list[Box]:
    voxels = restore_boxes(prepared, original, found.boxes.cpu().numpy())
    mm = original.boxes_to_world(voxels)
    rows = zip(found.classes.tolist(), found.scores.tolist(), voxels.tolist(), mm.tolist(), strict=True)
    return [Box(classes[number], score, tuple(v), tuple(m), number) for number, score, v, m in rows]


def case_name(source: str) -> str:
    """File name without its suffixes; the folder's name for a DICOM series.

    >>> case_name("scans/a.nii.gz"), case_name("/")
    ('a', 'image')
    """
    name = Path(source.partition("#")[0]).name
    return name[: len(name) - len(image_suffix(name))] or "image"


def image_suffix(name: str) -> str:
    """The suffix by which a file name says that it is an image, as written; empty where it does not.

    >>> image_suffix("scan.NII.gz"), image_suffix("notes.txt")
    ('.NII.gz', '')
    """
    fitting = [suffix for suffix in IMAGE_SUFFIXES if name.lower().endswith(suffix)]
    return name[-max(map(len, fitting)) :] if fitting else ""
