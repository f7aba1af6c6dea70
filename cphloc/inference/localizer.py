"""Apply a trained model to images; results are in the coordinates of the input."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypedDict, Unpack, overload

import numpy as np
from torch import Tensor, nn

from cphloc import __version__
from cphloc.data.pipeline.intensity import CT, parse_intensity
from cphloc.data.pipeline.preprocess import Preprocess, restore_map
from cphloc.data.pipeline.slabs import MaskRows, Slabs
from cphloc.errors import InputError
from cphloc.inference.backend import Backend, BackendName
from cphloc.inference.finite import finite_outputs
from cphloc.inference.inputs import Image, Inputs, content_hashes
from cphloc.inference.localization import Localization
from cphloc.inference.restored import localization_of
from cphloc.inference.uncertainty import with_masks
from cphloc.inference.windows import AirThreshold, OnMaskRows, infer
from cphloc.metrics.calibration import tempered
from cphloc.modeling.model import Model
from cphloc.ops.targets import Prediction
from cphloc.structures.padding import prediction_fill
from cphloc.structures.segment_codes import SegmentCode, code_of
from cphloc.structures.volume import Volume

if TYPE_CHECKING:
    from cphloc.recipe.recipe import Recipe


class PredictOptions(TypedDict, total=False):
    """Keyword arguments of `Localizer.predict`, described there."""

    tta: bool
    overlap: float
    skip_air: bool
    uncertainty: bool
    units: Mapping[str, str] | None
    strict: bool
    threshold: float | Mapping[str, float] | None
    progress: Callable[[Iterable], Iterable]


PARTS_WITH_THRESHOLD = ("boxes", "mask")
"""Parts of a result that a threshold applies to."""

AIR_HU = -700.0
"""Hounsfield units up to which a voxel is air; lung has similar values, but windows of lung also contain vessels."""

ROUNDING = 1e-4
"""Largest rounding error of resampling a constant image, in units of the model's input."""


class Localizer(nn.Module):
    """A model with its preprocessing, as returned by `cphloc.load`.

    Args:
        model: with trained weights.
        recipe: complete, with the constants of its intensity schemes.
        entry: the zoo entry that the model comes from, if any.
        backend: runtime that computes the windows; see `cphloc.inference.backend`.
    """

    def __init__(self, model: Model, recipe: Recipe, entry: Any | None = None, backend: BackendName = "torch") -> None:
        super().__init__()
        self.model = model.eval()
        self.backend = Backend(self.model, backend)
        self.recipe = recipe
        self.entry = entry
        self.listing: Any = None
        """Where the files of the entry are (`cphloc.zoo.entries.Listing`); ``None`` for the model of a run."""
        self.weights_sha256: str | None = None if entry is None else entry.weights.sha256
        """SHA-256 of the file of the weights: of the entry, or ``best.safetensors`` of the run."""
        self.classes = model.classes
        self.preprocess = preprocess_of(recipe)
        self.inputs = inputs_of(recipe, entry)
        self.temperature: float = 1.0 if entry is None or entry.calibration is None else entry.calibration.temperature

        stored = None if entry is None else entry.thresholds
        self.thresholds: dict[str, float] = {} if stored is None else stored.by_part

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of recipe, weights and calibration, which distinguishes the results of different models."""
        digest = hashlib.sha256(f"{self.recipe.to_yaml()}{self.temperature}{self.thresholds}".encode())
        for name, tensor in self.model.state_dict().items():
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(tensor.detach().cpu().float().numpy()).tobytes())
        return digest.hexdigest()

    @property
    def made_by(self) -> tuple[str, str]:
        """Name and version of the entry; of a model that is not published, the recipe's name and cphloc's version."""
        return (self.recipe.name, __version__) if self.entry is None else (self.entry.name, str(self.entry.version))

    @property
    def identity(self) -> dict[str, str | None]:
        """Name and version as in ``made_by``, ``weights_sha256``, and the version of ``cphloc``."""
        name, version = self.made_by
        return {"name": name, "version": version, "weights_sha256": self.weights_sha256, "cphloc": __version__}

    @property
    def _codes(self) -> dict[str, SegmentCode]:
        """Class name -> its code in a DICOM SEG, of the classes that have one."""
        found = {name: code_of(name, self.recipe.codes, self.recipe.data.type) for name in self.classes.values()}
        return {name: code for name, code in found.items() if code is not None}

    def forward(self, x: Tensor) -> Any:
        """Compute the output of the model for preprocessed images ``(N, C, *S)``, without postprocessing."""
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
        units: Mapping[str, str] | None = None,
        strict: bool = False,
        threshold: float | Mapping[str, float] | None = None,
        progress: Callable[[Iterable], Iterable] = iter,
    ) -> Localization | list[Localization]:
        """Predict one image, or each of a list of images.

        Peak memory of a model with a mask head is the sum of: the image as it is read; its mask, one byte per voxel
        (two if the orientation is changed); ``4 (C + K + 2)`` bytes per voxel for as many slices as a window has; and
        the memory of the network for one window. An intensity scheme with statistics of the whole image (``zscore``)
        adds ``4 C`` bytes per voxel, attention adds 4.

        Args:
            source: a file (NIfTI, NRRD, MetaImage, DICOM, PNG, JPEG, TIFF, npy), a DICOM folder, a NumPy array
                ``(*S)`` or ``(C, *S)``, or a mapping from channel name to these; or a list of such images.
            spacing_mm: voxel size in array order, for arrays and pictures, which do not contain it.
            tta: test-time augmentation: average the predictions of the image mirrored along the axes that were
                flipped in training.
            overlap: fraction of a window that overlaps with the next one, in [0, 1).
            skip_air: for CT models (intensity ``ct``), skip windows in which no voxel exceeds `AIR_HU`; they are
                background.
            uncertainty: also return the entropy of the class probabilities of every voxel; needs ``4 (K + 1)`` bytes
                more per voxel.
            units: unit of a channel whose file states none, where it is not that of the model: ``{"pet": "SUV"}`` for
                a model that takes ``SUV x 100``; see `cphloc.structures.units`.
            strict: raise an error where the image differs from what the model was trained on, instead of a warning in
                the result.
            threshold: least score of a box, and least probability of a voxel of a mask; both, or each by the name of
                its part, ``{"boxes": 0.4}``. By default those in ``thresholds``: an entry's were chosen on validation
                cases. Without one, all boxes are returned, and every voxel has its most probable class.
            progress: wraps each list of windows that begin at the same slice, to show a progress bar.

        Raises:
            DataError: the image cannot be read or does not suit the model, or the model's outputs are not finite.
            InputError: ``tta`` for a model whose classes name sides of the body or that was not trained on mirrored
                images; or an ``overlap`` or ``threshold`` out of range.
        """
        options = {"tta": tta, "overlap": overlap, "skip_air": skip_air, "progress": progress}
        if isinstance(source, Sequence) and not isinstance(source, str):
            shared = {"uncertainty": uncertainty, "threshold": threshold, "units": units, "strict": strict, **options}
            return [self.predict(s, spacing_mm, **shared) for s in source]
        least = self.thresholds if threshold is None else thresholds_of(threshold)
        reading = self.inputs.read(source, spacing_mm, units, strict)
        volume, seen = reading.volume, {"inputs": reading.channels, "warnings": reading.warnings}
        seen["input_sha256"] = content_hashes(source)
        if uncertainty:
            masked = with_masks(*self.predict_maps(volume, **options), True, least.get("mask"))
            return replace(masked, **seen).above(least)
        slabs = Slabs(self.preprocess, volume)
        masks = defaultdict(lambda: MaskRows(slabs.geometry, volume.geometry, least.get("mask")))
        predictions, facts = self._infer(slabs, lambda head, first, rows: masks[head].add_rows(first, rows), **options)
        result = localization_of(predictions, masks, volume, slabs.geometry, self.classes)
        return self._completed(replace(result, computed=facts, **seen)).above(least)

    def predict_maps(self, volume: Volume, **options: Any) -> tuple[Localization, np.ndarray | None]:
        """Predict an image and return class probabilities instead of a mask.

        Args:
            volume: the image, from `read`.
            options: those of `predict` except ``spacing_mm``, ``uncertainty`` and ``threshold``.

        Returns:
            the result with all boxes and without a mask, and the probabilities ``(K + 1, *S)`` on the image's own grid
            (``None`` for a model that predicts no masks).
        """
        slabs = Slabs(self.preprocess, volume)
        predictions, facts = self._infer(slabs, None, **options)
        result = self._completed(localization_of(predictions, {}, volume, slabs.geometry, self.classes))
        maps = [p.mask_probabilities[0].cpu().numpy() for p in predictions.values() if p.mask_probabilities is not None]
        whole = restore_map(slabs.geometry, volume.geometry, maps[0]) if maps else None
        return replace(result, computed=facts), whole

    def _infer(
        self,
        slabs: Slabs,
        on_mask_rows: OnMaskRows | None,
        *,
        tta: bool = False,
        overlap: float = 0.5,
        skip_air: bool = True,
        progress: Callable[[Iterable], Iterable] = iter,
    ) -> tuple[dict[str, Prediction], dict[str, Any]]:
        """Predict on the model's grid; also returns facts about the computation for `Localization.computed`."""
        self.check_options(tta=tta, overlap=overlap)
        mirror = self.mirrored_axes() if tta else ()
        air = air_threshold(self.preprocess) if skip_air else None
        patch = self.recipe.data.patch
        predictions = infer(
            self.model,
            slabs,
            patch,
            overlap,
            mirror,
            progress,
            swap=self.swapped_classes(),
            fill=prediction_fill(self.recipe.data.pad),
            forward=partial(finite_outputs, self.backend, slabs.volume.source),
            air=air,
            on_mask_rows=on_mask_rows,
        )
        return predictions, {**self.backend.facts, "air_skipped": air is not None}

    def _completed(self, result: Localization) -> Localization:
        """Add the model and the codes of its classes, and apply the temperature to the label probabilities."""
        result = replace(result, model=self.made_by, models=(self.identity,), codes=self._codes)
        if result.probabilities is None or self.temperature == 1:
            return result
        calibrated = tempered(np.array(list(result.probabilities.values())), self.temperature)
        return replace(result, probabilities=dict(zip(result.probabilities, calibrated.tolist(), strict=True)))

    def check_options(self, **options: Unpack[PredictOptions]) -> None:
        """Check the options of `predict` before anything is computed.

        Raises:
            InputError: as `predict`.
        """
        overlap = options.get("overlap", 0.5)
        if not 0 <= overlap < 1:
            msg = f"overlap is a fraction of a window in [0, 1), got {overlap}"
            raise InputError(msg)
        self.inputs.parse_units(options.get("units") or {})
        if (threshold := options.get("threshold")) is not None:
            thresholds_of(threshold)
        if options.get("tta"):
            self.mirrored_axes()

    def mirrored_axes(self) -> tuple[int, ...]:
        """Return the axes that were flipped in training, along which test-time augmentation mirrors the image.

        Raises:
            InputError: the classes name sides of the body that a mirrored view exchanges, and the recipe does not state
                which; or the model was not trained on mirrored images.
        """
        dims = self.recipe.dims
        flips = [block.args.get("axes") for block in self.recipe.data.augment if block.type == "Flip"]
        axes = {axis % dims for flipped in flips for axis in (range(dims) if flipped is None else flipped)}
        if not axes:
            msg = "tta mirrors the image, but this model was trained without Flip; predict without tta"
            raise InputError(msg)
        if self.recipe.laterality and dims - 1 in axes and not self.swapped_classes():
            msg = "tta mirrors the image, but the classes of this model name sides of the body; predict without tta"
            raise InputError(msg)
        return tuple(sorted(axes))

    def swapped_classes(self) -> dict[int, int]:
        """Return the classes that change places in an image mirrored left-right, both ways, by ``Flip``."""
        swaps = [block.args.get("swap") or {} for block in self.recipe.data.augment if block.type == "Flip"]
        pairs = [(int(a), int(b)) for swap in swaps for a, b in swap.items()]
        return dict(pairs) | {b: a for a, b in pairs}

    def read(self, source: Image, spacing_mm: Sequence[float] | None = None) -> Volume:
        """Read an image with its channels in the units of the model; arguments and errors as for `predict`."""
        return self.inputs.read(source, spacing_mm).volume


def inputs_of(recipe: Recipe, entry: Any | None = None) -> Inputs:
    """Collect what a model takes: its channels with modality and unit, and the fingerprint of its training data.

    Args:
        recipe: recipe of the model; an entry that was published without units takes those of its data set's card.
        entry: the zoo entry that the model comes from, if any.
    """
    stated = getattr(entry, "channel_inputs", None)
    return Inputs(stated or recipe.inputs, recipe.dims, getattr(entry, "fingerprint", None))


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


def preprocess_of(recipe: Recipe) -> Preprocess:
    """Build the preprocessing (resampling and intensity normalization) that a recipe specifies."""
    data = recipe.to_plain()["data"]
    spacing = None if data["spacing_mm"] is None else tuple(data["spacing_mm"])
    fit = tuple(data["patch"]) if data["fit"] == "whole" else None
    return Preprocess(recipe.dims, spacing, parse_intensity(data["intensity"], len(recipe.channels)), fit)


def air_threshold(preprocess: Preprocess) -> AirThreshold | None:
    """Return the threshold between air and body in the normalized values of a CT model; ``None`` for other models."""
    for channel, scheme in enumerate(preprocess.intensity):
        if isinstance(scheme, CT):
            return AirThreshold(channel, float(scheme(np.array([AIR_HU]))[0]) + ROUNDING)
    return None
