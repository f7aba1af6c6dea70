"""Translate nnU-Net's plans and data set into a recipe; what a recipe cannot express is refused by name."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cphloc.errors import DataError
from cphloc.importing.imported import unsupported

READERS = {
    "SimpleITKIO": "stored",
    "NibabelIO": "stored",
    "NaturalImage2DIO": "stored",
    "SimpleITKIOWithReorient": "RAS",
    "NibabelIOWithReorient": "RAS",
}
"""Orientation in which each reader of nnU-Net passes images on."""

MOST_VOXELS = 1 << 28
"""Largest number of voxels of a window."""

_RESAMPLING = {"is_seg": False, "order_z": 0}
"""Arguments of nnU-Net's resampling that a recipe does not state, with the values that are imported."""


@dataclass(frozen=True)
class Plans:
    """Plans of one configuration.

    Args:
        path: ``plans.json``.
        plans: its content.
        dataset: content of ``dataset.json``.
        name: name of the configuration, such as ``3d_fullres``.

    Raises:
        InputError: the configuration is a cascade, or something else that a recipe cannot express.
        DataError: the plans lack the configuration.
    """

    path: Path
    plans: Mapping[str, Any]
    dataset: Mapping[str, Any]
    name: str

    @property
    def configuration(self) -> dict[str, Any]:
        """The configuration with what it inherits."""
        every, merged, name = self.plans.get("configurations", {}), {}, self.name
        for _ in range(len(every) + 1):
            if not isinstance(every.get(name), dict):
                msg = f"{self.path}: has no configuration '{name}'; it has: {', '.join(every)}"
                raise DataError(msg)
            merged = {**every[name], **merged}
            name = every[name].get("inherits_from")
            if name is None:
                break
        if merged.get("previous_stage") or merged.get("previous_stage_name"):
            why = "the network takes the result of another as input; import 3d_lowres or 3d_fullres instead"
            raise unsupported(self.path, f"the cascade {self.name}", why)
        return merged

    def check(self) -> None:
        """Refuse what would change predictions without being translated.

        Raises:
            InputError: the preparation or the labels are not those of nnU-Net itself.
            DataError: the data set has other channels than the plans.
        """
        stated = {"preprocessor_name": self.configuration, "label_manager": self.plans}
        for key, known in (("preprocessor_name", "DefaultPreprocessor"), ("label_manager", "LabelManager")):
            if (found := stated[key].get(key, known)) != known:
                raise unsupported(self.path, f"the {key} {found}", f"only {known} is known")
        patch = self.configuration["patch_size"]
        if len(patch) not in (2, 3) or not 1 <= math.prod(patch) <= MOST_VOXELS or min(patch) < 1:
            raise unsupported(self.path, f"a patch_size of {patch}", f"2 or 3 lengths, {MOST_VOXELS:,} voxels at most")
        schemes = self.configuration["normalization_schemes"]
        if len(schemes) != len(self.channels):
            msg = f"{self.path.with_name('dataset.json')}: names {len(self.channels)} channels, but plans.json "
            raise DataError(f"{msg}normalizes {len(schemes)}; copy both files of the same training")

    @property
    def flat(self) -> bool:
        """Whether the images are pictures (2-D), not slices of volumes."""
        median = self.plans.get("original_median_shape_after_transp") or [2]
        return len(self.configuration["patch_size"]) == 2 and round(median[0]) == 1

    @property
    def dims(self) -> int:
        """Axes of the images: 3 for a 2-D network that predicts a volume slice by slice."""
        return 2 if self.flat else 3

    def per_axis(self, values: Sequence[Any], fill: Any = 1) -> list[Any]:
        """Return one value per axis of the images: a 2-D network works on slices, one voxel thick."""
        return [fill] * (self.dims - len(values)) + list(values)

    @property
    def reader(self) -> str:
        """Class that reads images."""
        name = str(self.dataset.get("overwrite_image_reader_writer") or self.plans.get("image_reader_writer"))
        if name not in READERS:
            raise unsupported(self.path, f"the image reader {name}", f"known are {', '.join(READERS)}")
        return name

    def data(self) -> dict[str, Any]:
        """Section ``data`` of the recipe."""
        channels, of = self.channels, self.configuration
        spacing = None if self.reader == "NaturalImage2DIO" else self._spacing()
        if self.reader == "NaturalImage2DIO" and [float(s) for s in of["spacing"]] != [1.0, 1.0]:
            raise unsupported(self.path, f"pictures at a spacing of {of['spacing']}", "they have none")
        is_ct = [name.lower() == "ct" for name in channels]
        return {
            "type": "nnunet",
            "channels": channels,
            "units": {name: "HU" for name, ct in zip(channels, is_ct, strict=True) if ct} or None,
            "spacing_mm": spacing,
            "intensity": [self._intensity(number) for number in range(len(channels))],
            "patch": self.per_axis(of["patch_size"]),
            "nnunet": self._steps(),
        }

    @property
    def channels(self) -> list[str]:
        """Names of the channels, in lower case; a number behind one that occurs twice."""
        stated = self.dataset.get("channel_names") or self.dataset.get("modality") or {}
        names = [str(stated[key]).lower() for key in sorted(stated, key=int)]
        return [name if names.count(name) == 1 else f"{name}_{number}" for number, name in enumerate(names)]

    def _spacing(self) -> list[float]:
        stated = [float(s) for s in self.configuration["spacing"]]
        if len(stated) == self.dims:
            return stated
        every = self.plans.get("original_median_spacing_after_transp") or [1.0]
        return [float(every[0]), *stated]

    def _steps(self) -> dict[str, Any]:
        forward = [int(a) for a in self.plans.get("transpose_forward", range(3))]
        if self.flat and forward != [0, 1, 2]:
            raise unsupported(self.path, f"transpose_forward {forward} of pictures", "only [0, 1, 2] is known")
        image, result = self._resampling("data", 3), self._resampling("probabilities", 1)
        if image["force_separate_z"] != result["force_separate_z"]:
            raise unsupported(self.path, "force_separate_z that differs between images and results", "one is stored")
        return {
            "orientation": READERS[self.reader],
            "axes": [0, 1] if self.flat else forward,
            "kept": [0] if not self.flat and len(self.configuration["patch_size"]) == 2 else [],
            "image_order": image["order"],
            "result_order": result["order"],
            "separate": image["force_separate_z"],
        }

    def _resampling(self, what: str, order: int) -> dict[str, Any]:
        """Arguments of a resampling; a function other than nnU-Net's default is refused."""
        of = self.configuration
        function = of.get(f"resampling_fn_{what}", "resample_data_or_seg_to_shape")
        if function != "resample_data_or_seg_to_shape":
            raise unsupported(self.path, f"the resampling {function}", "only resample_data_or_seg_to_shape is known")
        given = {"order": order, "force_separate_z": None, **_RESAMPLING, **of.get(f"resampling_fn_{what}_kwargs", {})}
        for name, value in _RESAMPLING.items():
            if given.pop(name) != value:
                raise unsupported(
                    self.path, f"resampling of {what} with another {name} than {value}", "it is not known"
                )
        if more := set(given) - {"order", "force_separate_z"}:
            raise unsupported(self.path, f"the argument {min(more)} of the resampling of {what}", "it is not known")
        return given

    def _intensity(self, channel: int) -> dict[str, Any]:
        scheme = str(self.configuration["normalization_schemes"][channel])
        masked = bool(self.configuration.get("use_mask_for_norm", [False] * (channel + 1))[channel])
        if scheme == "CTNormalization":
            known = self.plans["foreground_intensity_properties_per_channel"][str(channel)]
            low, high = known["percentile_00_5"], known["percentile_99_5"]
            return {"type": "ct", "low": low, "high": high, "mean": known["mean"], "std": max(known["std"], 1e-8)}
        schemes: dict[str, dict[str, Any]] = {
            "ZScoreNormalization": {"type": "zscore_nonzero" if masked else "zscore"},
            "NoNormalization": {"type": "none"},
            "RescaleTo01Normalization": {"type": "minmax"},
            "RGBTo01Normalization": {"type": "scale", "low": 0.0, "high": 255.0},
        }
        if scheme not in schemes:
            known = ", ".join(["CTNormalization", *schemes])
            raise unsupported(self.path, f"the normalization {scheme}", f"known are {known}")
        return schemes[scheme]

    def classes(self) -> tuple[dict[int, str], bool]:
        """Return the classes by number, and whether they are regions that may contain each other."""
        labels = {str(name): value for name, value in self.dataset["labels"].items() if name != "ignore"}
        regions = any(isinstance(value, list) and len(value) > 1 for value in labels.values())
        foreground = {name: value for name, value in labels.items() if value not in (0, [0])}
        numbers = list(foreground.values())
        if regions:
            numbers = [int(n) for n in self.dataset.get("regions_class_order") or ()]
        numbers = [n[0] if isinstance(n, list) else int(n) for n in numbers]
        expected = list(range(1, len(foreground) + 1))
        if (numbers if regions else sorted(numbers)) != expected:
            what = f"regions_class_order {numbers}" if regions else f"the labels {sorted(numbers)}"
            raise unsupported(self.path.with_name("dataset.json"), what, f"an entry numbers its classes {expected}")
        named = dict(zip(numbers, foreground, strict=True))
        return {number: named[number] for number in expected}, regions
