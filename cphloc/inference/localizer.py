"""Apply a trained model to images; results are in the coordinates of the input."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Unpack, overload

import numpy as np
from torch import Tensor, nn

from cphloc import __version__
from cphloc.data.pipeline.intensity import parse_intensity
from cphloc.data.pipeline.monai import MonaiImage, MonaiPreprocess
from cphloc.data.pipeline.nnunet import NnUNetImage, NnUNetPreprocess
from cphloc.data.pipeline.opened import opened
from cphloc.data.pipeline.preprocess import Preprocess
from cphloc.data.pipeline.slabs import MaskRows, Slabs
from cphloc.data.pipeline.whole import WholeRows
from cphloc.errors import DataError, InputError
from cphloc.inference.air import air_threshold
from cphloc.inference.backend import Backend, BackendName
from cphloc.inference.finite import finite_outputs
from cphloc.inference.inputs import Image, Inputs, content_hashes
from cphloc.inference.localization import Localization
from cphloc.inference.model_display import entry_picture, entry_rows, model_display
from cphloc.inference.options import PredictOptions, overridden, thresholds_of
from cphloc.inference.restored import localization_of
from cphloc.inference.uncertainty import with_masks
from cphloc.inference.views import mirrored_axes, swapped_classes
from cphloc.inference.windows import OnMaskRows, infer
from cphloc.metrics.calibration import tempered
from cphloc.modeling.model import Model
from cphloc.ops.sliding_window import EVEN, regular_layout
from cphloc.ops.targets import Prediction
from cphloc.progress import track
from cphloc.structures.display import Display, Displayed
from cphloc.structures.merging import of_part
from cphloc.structures.options import Options, SizeIntervals
from cphloc.structures.padding import prediction_fill
from cphloc.structures.segment_codes import SegmentCode, code_of
from cphloc.structures.volume import Volume

if TYPE_CHECKING:
    from cphloc.recipe.recipe import Recipe


class Localizer(Displayed, nn.Module):
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
        self.options: Options = Options() if entry is None else entry.options_applied
        """What predictions apply by default; an entry's was chosen on validation cases."""
        chosen = None if entry is None else entry.options
        self.sizes: SizeIntervals | None = None if chosen is None else chosen.sizes
        """Errors of measured sizes with these options, for the intervals of measurements."""

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of recipe, weights and options, which distinguishes the results of different models."""
        digest = hashlib.sha256(f"{self.recipe.to_yaml()}{self.options.stated}".encode())
        for name, tensor in self.model.state_dict().items():
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(tensor.detach().cpu().float().numpy()).tobytes())
        return digest.hexdigest()

    @property
    def temperature(self) -> float:
        """Divisor of the logits of the label probabilities, as in ``options``."""
        return self.options.temperature

    @temperature.setter
    def temperature(self, value: float) -> None:
        """Replace the divisor."""
        self.options = self.options.model_copy(update={"temperature": value})

    @property
    def thresholds(self) -> dict[str, float]:
        """Least score of ``boxes`` and least probability of a ``mask``, as in ``options``."""
        return {str(part): least for part, least in self.options.thresholds.items()}

    @thresholds.setter
    def thresholds(self, value: Mapping[str, float]) -> None:
        """Replace the thresholds."""
        self.options = self.options.model_copy(update={"thresholds": dict(value)})

    @property
    def made_by(self) -> tuple[str, str]:
        """Name and version of the entry; of a model that is not published, the recipe's name and cphloc's version."""
        return (self.recipe.name, __version__) if self.entry is None else (self.entry.name, str(self.entry.version))

    @property
    def identity(self) -> dict[str, str | None]:
        """Name and version as in ``made_by``, ``weights_sha256``, and the version of ``cphloc``."""
        name, version = self.made_by
        return {"name": name, "version": version, "weights_sha256": self.weights_sha256, "cphloc": __version__}

    def _display(self) -> Display:
        parameters = sum(p.numel() for p in self.model.parameters()) / 1e6
        rows = [
            ("size", f"{parameters:.2f} million parameters"),
            *entry_rows(self.entry),
        ]
        of = self.recipe, self.inputs, self.classes, self.options, rows
        shown = model_display(f"Model {' '.join(self.made_by)}", *of)
        return replace(shown, picture=entry_picture(self.entry, self.listing))

    @property
    def _codes(self) -> dict[str, SegmentCode]:
        """Class name -> its code in a DICOM SEG, of the classes that have one."""
        names = {*self.classes.values(), *of_part(self.classes, "mask").values()}
        found = {name: code_of(name, self.recipe.codes, self.recipe.data.type) for name in names}
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
                flipped in training. ``None``: as ``options`` state; an entry's were chosen on validation cases.
            overlap: fraction of a window that overlaps with the next one, in [0, 1); ``None``: 0.5, or that of the
                bundle from which the weights were imported.
            window_batch: windows that the network computes at once; the memory of the network grows by this factor.
                Results agree up to rounding. More than 1 is faster on a GPU, for windows that do not fill it.
            skip_air: for CT models (intensity ``ct``), skip windows in which no voxel exceeds
                `cphloc.inference.air.AIR_HU`; they are background.
            uncertainty: also return the entropy of the class probabilities of every voxel; needs ``4 (K + 1)`` bytes
                more per voxel.
            units: unit of a channel whose file states none, where it is not that of the model: ``{"pet": "SUV"}`` for
                a model that takes ``SUV x 100``; see `cphloc.structures.units`.
            strict: raise an error where the image differs from what the model was trained on, instead of a warning in
                the result.
            threshold: least score of a box, and least probability of a voxel of a mask; both, or each by the name of
                its part, ``{"boxes": 0.4}``. By default those of ``options``. Without one, all boxes are returned, and
                every voxel has its most probable class.
            postprocess: whether to remove the classes and components of masks that ``options`` do not keep.
            progress: wraps each list of windows that begin at the same slice, to show a progress bar.

        Raises:
            DataError: the image cannot be read or does not suit the model, or the model's outputs are not finite.
            InputError: ``tta`` for a model whose classes name sides of the body or that was not trained on mirrored
                images; or an ``overlap``, ``window_batch`` or ``threshold`` out of range.
        """
        options = {"tta": tta, "overlap": overlap, "skip_air": skip_air, "progress": progress}
        options |= {"window_batch": window_batch}
        if isinstance(source, Sequence) and not isinstance(source, str):
            options |= {"uncertainty": uncertainty, "threshold": threshold, "units": units, "strict": strict}
            images = track(source, "predicting")
            return [self.predict(s, spacing_mm, postprocess=postprocess, **options) for s in images]
        used = overridden(self.options, tta, threshold, postprocess)
        reading = self.inputs.read(source, spacing_mm, units, strict)
        result = self._localized(reading.volume, used, uncertainty, **options)
        if strict and result.warnings:
            msg = f"{reading.volume.source}: {'; '.join(result.warnings)}; predict without strict, or correct the image"
            raise DataError(msg)
        seen = {"inputs": reading.channels, "warnings": (*reading.warnings, *result.warnings)}
        sizes = self.sizes if used == self.options else None
        return replace(result, **seen, sizes=sizes, input_sha256=content_hashes(source)).applying(used)

    def _localized(self, volume: Volume, used: Options, uncertainty: bool, **options: Any) -> Localization:
        """Predict an image, from `read`, with all boxes and components; arguments as for `predict`."""
        least = used.thresholds.get("mask")
        if uncertainty:
            return with_masks(*self.predict_maps(volume, **options), True, least)
        slabs, masks = opened(self.preprocess, volume), dict[str, MaskRows | WholeRows]()

        def add_rows(head: str, first: int, rows: Tensor) -> None:
            """Collect the next rows of a head's mask."""
            masks.setdefault(head, slabs.mask_rows(least, self._has_regions(head))).add_rows(first, rows)

        predictions, facts = self._infer(slabs, add_rows, **options)
        result = localization_of(predictions, masks, volume, slabs.geometry, self.classes)
        return self._completed(replace(result, computed=facts))

    def predict_maps(self, volume: Volume, **options: Any) -> tuple[Localization, np.ndarray | None]:
        """Predict an image and return class probabilities instead of a mask.

        Args:
            volume: the image, from `read`.
            options: ``tta``, ``overlap``, ``skip_air`` and ``progress`` of `predict`.

        Returns:
            the result with all boxes and without a mask, and the probabilities ``(K + 1, *S)`` on the image's own grid
            (``None`` for a model that predicts no masks).
        """
        slabs = opened(self.preprocess, volume)
        if any(map(self._has_regions, self.model.heads)):
            msg = "the classes of this model are regions that contain each other; it gives masks, not probabilities"
            raise InputError(msg)
        predictions, facts = self._infer(slabs, None, **options)
        result = self._completed(localization_of(predictions, {}, volume, slabs.geometry, self.classes))
        maps = [p.mask_probabilities[0].cpu().numpy() for p in predictions.values() if p.mask_probabilities is not None]
        whole = slabs.restore(maps[0]) if maps else None
        return replace(result, computed=facts), whole

    def _infer(
        self,
        slabs: Slabs | NnUNetImage | MonaiImage,
        on_mask_rows: OnMaskRows | None,
        *,
        tta: bool | None = None,
        overlap: float | None = None,
        window_batch: int = 1,
        skip_air: bool = True,
        progress: Callable[[Iterable], Iterable] = iter,
    ) -> tuple[dict[str, Prediction], dict[str, Any]]:
        """Predict on the model's grid; also returns facts about the computation for `Localization.computed`."""
        self.check_options(tta=tta, overlap=overlap, window_batch=window_batch)
        mirror = self.mirrored_axes() if (self.options.tta if tta is None else tta) else ()
        air = air_threshold(self.preprocess) if skip_air else None
        patch, monai = self.recipe.data.patch, self.recipe.data.monai
        chosen, layout = (0.5, EVEN) if monai is None else (monai.overlap, regular_layout(monai.weight))
        predictions = infer(
            self.model,
            slabs,
            patch,
            chosen if overlap is None else overlap,
            mirror,
            progress,
            swap=self.swapped_classes(),
            fill=prediction_fill(self.recipe.data.pad),
            forward=partial(finite_outputs, self.backend, slabs.volume.source),
            air=air,
            on_mask_rows=on_mask_rows,
            window_batch=window_batch,
            layout=layout,
        )
        return predictions, {**self.backend.facts, "air_skipped": air is not None}

    def _has_regions(self, head: str) -> bool:
        """Whether a head scores regions that may contain each other, see `cphloc.ops.regions`."""
        return getattr(self.model.heads[head], "scores", "") == "sigmoid"

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
        overlap = options.get("overlap")
        if overlap is not None and not 0 <= overlap < 1:
            msg = f"overlap is a fraction of a window in [0, 1), got {overlap}"
            raise InputError(msg)
        if (batch := options.get("window_batch", 1)) < 1:
            msg = f"window_batch is a number of windows, at least 1, got {batch}"
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
        return mirrored_axes(self.recipe)

    def swapped_classes(self) -> dict[int, int]:
        """Return the classes that change places in an image mirrored left-right, both ways, by ``Flip``."""
        return swapped_classes(self.recipe)

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


def preprocess_of(recipe: Recipe) -> Preprocess:
    """Build the preprocessing (resampling and intensity normalization) that a recipe specifies."""
    data = recipe.to_plain()["data"]
    spacing = None if data["spacing_mm"] is None else tuple(data["spacing_mm"])
    fit = tuple(data["patch"]) if data["fit"] == "whole" else None
    intensity = parse_intensity(data["intensity"], len(recipe.channels))
    if recipe.data.nnunet is not None:
        patch = tuple(recipe.data.patch or (1,) * recipe.dims)
        return NnUNetPreprocess(recipe.dims, spacing, intensity, steps=recipe.data.nnunet, patch=patch)
    if recipe.data.monai is not None:
        patch = None if recipe.data.patch is None else tuple(recipe.data.patch)
        return MonaiPreprocess(recipe.dims, spacing, intensity, steps=recipe.data.monai, patch=patch)
    return Preprocess(recipe.dims, spacing, intensity, fit)
