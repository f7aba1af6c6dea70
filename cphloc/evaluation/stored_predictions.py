"""Store the predictions of cases compressed, and read them again."""

from __future__ import annotations

import hashlib
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np

from cphloc.data.case import Case, read_case
from cphloc.errors import DataError
from cphloc.evaluation.prediction import CasePrediction, case_prediction
from cphloc.files import atomic
from cphloc.inference.localizer import Localizer
from cphloc.inference.uncertainty import with_masks
from cphloc.paths import portable

LEVELS = 255
"""Levels of the stored class probabilities of voxels, one byte each."""

_PARTS = ("mask", "boxes", "scores", "box_classes", "attention", "probabilities")
_LONGEST_NAME = 100


@dataclass(frozen=True, eq=False)
class StoredPrediction:
    """Prediction of a case without temperature, thresholds or postprocessing.

    Args:
        prediction: the most probable class of each voxel, all boxes, label probabilities.
        maps: ``(K + 1, *S)`` float32 class probabilities of each voxel, background first, in steps of 1 / `LEVELS`;
            ``None`` for a model that predicts no masks.
        milliseconds: time that the prediction took.
    """

    prediction: CasePrediction
    maps: np.ndarray | None
    milliseconds: float

    def save(self, path: Path) -> None:
        """Write the prediction as a compressed ``.npz`` file."""
        parts = {name: getattr(self.prediction, name) for name in _PARTS}
        arrays = {name: value for name, value in parts.items() if value is not None}
        if self.maps is not None:
            arrays["maps"] = np.rint(self.maps * LEVELS).astype(np.uint8)
        with atomic(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, milliseconds=self.milliseconds, **arrays)

    @classmethod
    def load(cls, path: Path) -> StoredPrediction:
        """Read what `save` wrote.

        Raises:
            DataError: the file is missing or damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays: Mapping[str, np.ndarray] = {name: file[name] for name in file.files}
            maps = arrays["maps"].astype(np.float32) / LEVELS if "maps" in arrays else None
            prediction = CasePrediction(**{name: arrays[name] for name in _PARTS if name in arrays})
            return cls(prediction, maps, float(arrays["milliseconds"]))
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            msg = f"{path}: cannot be read ({error}); remove it, and resume the cross-validation"
            raise DataError(msg) from None


def predict_case(localizer: Localizer, case: Case) -> StoredPrediction:
    """Predict a case, without temperature, thresholds or postprocessing.

    Raises:
        DataError: the image cannot be read or does not suit the model.
    """
    volume, _ = read_case(case, localizer.recipe.dims)
    started = time.perf_counter()
    result, maps = localizer.predict_maps(volume)
    milliseconds = 1000 * (time.perf_counter() - started)
    prediction = case_prediction(with_masks(result, maps, uncertainty=False), localizer.classes)
    return StoredPrediction(prediction, maps, milliseconds)


def file_name(case: str) -> str:
    """Return the name of the file with the prediction of a case; names that some system cannot have are quoted.

    >>> file_name("a/b")
    'a%2Fb.npz'
    """
    quoted = quote(case, safe=" ")
    if portable(quoted) != quoted:
        quoted = f"%{ord(quoted[0]):02X}{quoted[1:]}"
    if len(quoted) > _LONGEST_NAME:
        quoted = f"{quoted[:_LONGEST_NAME]}-{hashlib.sha256(case.encode('utf-8', 'surrogateescape')).hexdigest()[:16]}"
    return f"{quoted}.npz"
