"""Serve an entry with ``mlflow models serve``. MLflow loads entries through this module instead of a pickle.

A request has one row per image: ``image`` is the file in base64 and ``name`` its file name, whose suffix gives the
format; a model of several channels takes one column per channel instead, each in base64, and the same ``name``.
``spacing_mm`` is optional, and so is ``units`` for channels whose file states none, such as ``pet=SUV``. The ``params``
of a request are listed in `PARAMETERS`. A response has one object per image: probabilities, boxes and measurements, the
mask as run lengths of its flattened classes, ``[[class, count], ...]``, with its ``shape``, and the attention map as
`packed` describes. Of several images, one that cannot be predicted has an ``error`` instead; the others are answered.

`mlflow.pyfunc.load_model` takes the same rows as a pandas data frame.

.. code-block:: sh

    mlflow models serve -m models:/unet3d-hippocampus/1 --env-manager local --port 5001
    echo '{"dataframe_records": [{"image": "'$(base64 -w0 t1.nii.gz)'", "name": "t1.nii.gz"}]}' > request.json
    curl http://127.0.0.1:5001/invocations -H 'Content-Type: application/json' -d @request.json

answers ``{"predictions": [{"measurements": {"anterior": {"volume_ml": 1.69, ...}}, "mask": {"shape": [35, 51, 35],
"runs": [[0, 8120], [1, 3], ...]}}]}``.
"""

from __future__ import annotations

import base64
import binascii
import math
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cphloc.errors import CphlocError, InputError, did_you_mean
from cphloc.inference.localization import Localization
from cphloc.structures.units import units_by_channel

if TYPE_CHECKING:
    from cphloc.inference.localizer import Localizer


PARAMETERS: Mapping[str, tuple[type, bool | float | str | None]] = {
    "tta": (bool, None),
    "overlap": (float, 0.5),
    "skip_air": (bool, True),
    "uncertainty": (bool, False),
    "strict": (bool, False),
    "threshold": (float, None),
    "postprocess": (bool, True),
    "units": (str, ""),
}
"""Parameters of a request with type and default: arguments of `cphloc.inference.localizer.Localizer.predict`; ``units``
are those of all rows, such as ``ct=HU,pet=SUV``."""


def columns_of(channels: Sequence[str]) -> dict[str, tuple[str, bool]]:
    """Return the columns of a request: ``text`` or ``numbers``, and whether each is needed.

    Args:
        channels: channels of the model; of several, each is a column, unless one file holds them all.
    """
    several = len(channels) > 1
    images = {"image": ("text", not several), **(dict.fromkeys(channels, ("text", False)) if several else {})}
    return {**images, "name": ("text", True), "spacing_mm": ("numbers", False), "units": ("text", False)}


class Served:
    """A loaded entry with the interface that MLflow expects of a model.

    Args:
        localizer: the loaded entry.
    """

    def __init__(self, localizer: Localizer) -> None:
        self.localizer = localizer

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Predict every row of a request.

        Args:
            model_input: a pandas data frame or a list of mappings; columns as the module describes.
            params: see `PARAMETERS`.

        Raises:
            InputError: the only row lacks its image or its name, or is not base64; or a parameter does not exist.
            CphlocError: the image of the only row cannot be predicted.
        """
        for name in params or {}:
            if name not in PARAMETERS:
                hint = did_you_mean(name, PARAMETERS) or f"the parameters are {', '.join(PARAMETERS)}"
                msg = f"no parameter '{name}'; {hint}"
                raise InputError(msg)
        rows = model_input.to_dict("records") if hasattr(model_input, "to_dict") else list(model_input)
        defaults = {name: default for name, (_, default) in PARAMETERS.items()}
        options = {**defaults, **(params or {})}
        if len(rows) == 1:
            return [self._answer(rows[0], dict(options))]
        return [self._answer_or_error(row, dict(options)) for row in rows]

    def _answer_or_error(self, row: Mapping[str, Any], options: dict[str, Any]) -> dict[str, Any]:
        try:
            return self._answer(row, options)
        except CphlocError as error:
            return {"error": str(error)}

    def _answer(self, row: Mapping[str, Any], options: dict[str, Any]) -> dict[str, Any]:
        channels = self.localizer.recipe.channels
        columns = ["image"] if isinstance(row.get("image"), str) or len(channels) == 1 else channels
        stated = [options.pop("units"), row.get("units")]
        units = units_by_channel([text for text in stated if isinstance(text, str) and text])
        with tempfile.TemporaryDirectory() as folder:
            files = {column: _written(row, column, Path(folder) / str(n)) for n, column in enumerate(columns)}
            source = files["image"] if columns == ["image"] else files
            result = self.localizer.predict(source, _spacing(row.get("spacing_mm")), units=units, **options)
        return to_response(replace(result, input_sha256=dict(zip(columns, result.input_sha256.values(), strict=True))))


def to_response(result: Localization) -> dict[str, Any]:
    """Convert a result to plain data for JSON."""
    response = {key: value for key, value in result.summary().items() if key not in ("source", "case")}
    if result.masks is not None:
        response["mask"] = {"shape": list(result.masks.shape), "runs": run_lengths(result.masks)}
    if result.attention is not None:
        response["attention"] = packed(result.attention)
    return response


def packed(attention: np.ndarray) -> dict[str, Any]:
    """Encode an attention map for JSON: 16 bits a voxel, relative to the ``peak``, compressed.

    ``peak / 65535 * np.frombuffer(zlib.decompress(base64.b64decode(values)), "<u2").reshape(shape)`` is the map.

    >>> packed(np.array([[0.25, 0.75]]))["shape"], packed(np.array([[0.25, 0.75]]))["peak"]
    ([1, 2], 0.75)
    """
    peak = float(attention.max(initial=0.0))
    steps = np.round(attention / (peak or 1.0) * 65535).astype("<u2")
    values = base64.b64encode(zlib.compress(steps.tobytes())).decode()
    return {"shape": list(attention.shape), "peak": peak, "values": values}


def run_lengths(mask: np.ndarray) -> list[list[int]]:
    """Encode a mask as ``[[class, count], ...]`` along its flattened voxels, last axis fastest.

    >>> run_lengths(np.array([[0, 0], [1, 0]]))
    [[0, 2], [1, 1], [0, 1]]
    """
    flat = mask.ravel()
    starts = np.flatnonzero(np.r_[True, flat[1:] != flat[:-1]]) if flat.size else np.zeros(0, int)
    counts = np.diff(np.r_[starts, flat.size])
    return [[int(value), int(count)] for value, count in zip(flat[starts], counts, strict=True)]


def _spacing(stated: Any) -> list[float] | None:
    """Read the voxel size of a row; ``None`` where it states none.

    Raises:
        InputError: it is no list of numbers.
    """
    if stated is None or (isinstance(stated, float) and math.isnan(stated)):
        return None
    try:
        if isinstance(stated, str | float):
            raise ValueError
        return [float(value) for value in stated]
    except (TypeError, ValueError):
        msg = f"'spacing_mm' is {stated!r}; give a list of numbers, in mm, one per axis of the array"
        raise InputError(msg) from None


def _written(row: Mapping[str, Any], column: str, folder: Path) -> Path:
    """Decode the image of a column into a file with the suffixes of ``name``."""
    name, text = row.get("name"), row.get(column)
    if not isinstance(name, str) or not isinstance(text, str):
        msg = f"a row needs '{column}', a file in base64, and 'name', its file name; got {sorted(map(str, row))}"
        raise InputError(msg)
    path = folder / (Path(name.replace(chr(92), "/").replace("\0", "")).name.lstrip(".")[-100:] or "image")
    folder.mkdir(parents=True)
    try:
        path.write_bytes(base64.b64decode(text, validate=True))
    except binascii.Error as error:
        msg = f"'{column}' is not base64 ({error}); encode the file's bytes"
        raise InputError(msg) from None
    return path


def _load_pyfunc(data_path: str) -> Served:
    """Load the entry in a folder; MLflow calls this function by its name."""
    from cphloc.zoo.load import load

    return Served(load(Path(data_path)))
