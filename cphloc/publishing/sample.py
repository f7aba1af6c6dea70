"""An entry's sample: a small real image with the expected prediction, so that any copy of the entry can be checked."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ValidationError

from cphloc.config import jsonio
from cphloc.config.json_file import read_json
from cphloc.errors import DataError
from cphloc.inference.localization import Box, Localization

SAMPLE_FOLDER = "sample"
EXPECTED_FILE = "expected.json"
MASK_FILE = "expected_mask.npz"

MASK_TOLERANCE = 0.01
"""Share of the voxels in either mask that may differ."""
SCORE_TOLERANCE = 0.02
"""Largest allowed difference of probabilities and of box scores."""
BOX_IOU = 0.9
"""Smallest IoU of two boxes that count as the same."""
CERTAIN_SCORE = 0.3
"""Boxes below this score are not compared, because rounding may decide whether they are detected."""
ATTENTION_TOLERANCE = 0.05
"""Largest allowed difference of attention, relative to its maximum."""
MAX_FACTS_BYTES, MAX_MASK_BYTES = 10_000_000, 1 << 28
"""Largest expected results, and largest mask after decompression."""
ATTENTION_CELLS = 16
"""Attention is compared on a grid of at most this many cells per axis."""


class _Box(BaseModel):
    """An expected box, see `Box`."""

    name: str
    score: float
    voxels: list[float]
    number: int = 0


class _Expected(BaseModel):
    """Content of ``expected.json``."""

    case: str
    inputs: dict[str, str]
    spacing_mm: list[float] | None
    has_mask: bool
    boxes: list[_Box] = []
    probabilities: dict[str, float] = {}
    attention: list[float] = []


def write_expected(
    folder: Path, case: str, inputs: Mapping[str, str], spacing_mm: Sequence[float] | None, result: Localization
) -> None:
    """Write the expected prediction beside the inputs.

    Args:
        folder: the sample folder.
        case: id of the case.
        inputs: file names by channel, from `cphloc.publishing.patient.write_pixels`.
        spacing_mm: voxel size to predict with, where the files state none.
        result: the prediction.
    """
    facts = {"case": case, "inputs": dict(inputs), "spacing_mm": spacing_mm and list(spacing_mm), **facts_of(result)}
    (folder / EXPECTED_FILE).write_text(jsonio.dumps(facts, indent=1) + "\n", encoding="utf-8")
    if result.masks is not None:
        np.savez_compressed(folder / MASK_FILE, mask=result.masks)


def read_expected(facts_path: Path, mask_path: Path | None) -> tuple[dict[str, Any], np.ndarray | None]:
    """Read the expected prediction: its facts, and its mask if it has one.

    Raises:
        DataError: a file cannot be read.
    """
    try:
        facts = _Expected.model_validate(read_json(facts_path, MAX_FACTS_BYTES)).model_dump(exclude_unset=True)
        return facts, None if mask_path is None else _mask(mask_path)
    except ValidationError as error:
        key = ".".join(map(str, error.errors()[0]["loc"])) or "(top)"
        msg = f"{facts_path}: {key} has a value of the wrong type, or none; download or publish the entry again"
        raise DataError(msg) from None
    except Exception as error:  # numpy and zipfile raise errors of many types for damaged files
        msg = f"{facts_path.parent}: the sample cannot be read ({error}); download or publish the entry again"
        raise DataError(msg) from None


def _mask(path: Path) -> np.ndarray:
    with zipfile.ZipFile(path) as archive:
        if archive.namelist() != ["mask.npy"]:
            msg = "it holds other arrays than its mask"
            raise ValueError(msg)
        if archive.getinfo("mask.npy").file_size > MAX_MASK_BYTES:
            msg = f"its mask has more than {MAX_MASK_BYTES:,} bytes"
            raise ValueError(msg)
    with np.load(path, allow_pickle=False) as arrays:
        mask = arrays["mask"]
    if not (isinstance(mask, np.ndarray) and mask.dtype.kind in "biu"):
        msg = "its mask does not hold whole numbers"
        raise TypeError(msg)
    return mask


def source_of(facts: Mapping[str, Any], paths: Mapping[str, Path]) -> Any:
    """Return the input for ``predict``: one file, or a mapping from channel to file.

    Raises:
        DataError: the sample lacks a file that the expected prediction names.
    """
    inputs = facts["inputs"]
    if absent := [file for file in inputs.values() if file not in paths]:
        msg = f"the sample lacks the file '{absent[0]}'; download or publish the entry again"
        raise DataError(msg)
    by_channel = {name: paths[file] for name, file in inputs.items()}
    return by_channel["image"] if list(by_channel) == ["image"] else by_channel


def facts_of(result: Localization) -> dict[str, Any]:
    """Convert a result without its mask to plain data; attention is sampled on a coarse grid."""
    facts: dict[str, Any] = {"has_mask": result.masks is not None}
    if result.boxes is not None:
        facts["boxes"] = [
            {"name": b.name, "score": b.score, "voxels": list(b.voxels), "number": b.number} for b in result.boxes
        ]
    if result.probabilities is not None:
        facts["probabilities"] = dict(result.probabilities)
    if result.attention is not None:
        facts["attention"] = [float(f"{value:.4g}") for value in _thinned(result.attention).ravel()]
    return facts


def differences(facts: Mapping[str, Any], mask: np.ndarray | None, result: Localization) -> list[str]:
    """List where a result differs from the expected prediction by more than the tolerances.

    Args:
        facts: expected, from `read_expected`.
        mask: expected, ``None`` for a model without masks.
        result: the prediction to check.
    """
    found = facts_of(result)
    kinds = ("boxes", "probabilities", "attention")
    differing = [f"{kind} are expected" for kind in kinds if kind in facts and kind not in found]
    differing += [f"{kind} were not expected" for kind in kinds if kind in found and kind not in facts]
    if differing or facts["has_mask"] != found["has_mask"]:
        return differing or [f"a mask is {'expected' if facts['has_mask'] else 'not expected'}"]
    if mask is not None and result.masks is not None:
        differing += _mask_differences(mask, result.masks)
    for name, expected in facts.get("probabilities", {}).items():
        value = found["probabilities"].get(name, math.nan)
        if not abs(value - expected) <= SCORE_TOLERANCE:
            differing.append(f"probability of {name} is {value:.4f}, {expected:.4f} is expected")
    if "boxes" in facts and result.boxes is not None:
        differing += _box_differences([Box(mm=(), **b) for b in facts["boxes"]], result.boxes)
    if "attention" in facts and result.attention is not None:
        differing += _attention_differences(np.asarray(facts["attention"]), _thinned(result.attention).ravel())
    return differing


def _mask_differences(expected: np.ndarray, found: np.ndarray) -> list[str]:
    if expected.shape != found.shape:
        return [f"the mask has shape {found.shape}, {expected.shape} is expected"]
    differing = int(np.count_nonzero(expected != found))
    either = int(np.count_nonzero((expected > 0) | (found > 0)))
    if differing <= MASK_TOLERANCE * either:
        return []
    return [f"{differing:,} of {either:,} mask voxels differ, {MASK_TOLERANCE:.0%} may"]


def _box_differences(expected: Sequence[Box], found: Sequence[Box]) -> list[str]:
    missing = [b for b in expected if b.score >= CERTAIN_SCORE and not any(_same(b, f) for f in found)]
    extra = [f for f in found if f.score >= CERTAIN_SCORE + SCORE_TOLERANCE and not any(_same(f, b) for b in expected)]
    differing = [
        f"expected box {b.name} {b.score:.3f} at {[round(v, 1) for v in b.voxels]} is missing" for b in missing
    ]
    return differing + [
        f"box {b.name} {b.score:.3f} at {[round(v, 1) for v in b.voxels]} is not expected" for b in extra
    ]


def _same(first: Box, second: Box) -> bool:
    kinds = [(box.name, len(box.voxels)) for box in (first, second)]
    if kinds[0] != kinds[1] or abs(first.score - second.score) > SCORE_TOLERANCE:
        return False
    a, b = np.asarray(first.voxels), np.asarray(second.voxels)
    dims = len(a) // 2
    shared = np.prod(np.clip(np.minimum(a[dims:], b[dims:]) - np.maximum(a[:dims], b[:dims]), 0, None))
    union = np.prod(a[dims:] - a[:dims]) + np.prod(b[dims:] - b[:dims]) - shared
    return bool(shared >= BOX_IOU * union)


def _attention_differences(expected: np.ndarray, found: np.ndarray) -> list[str]:
    if expected.shape != found.shape:
        return [f"attention has {found.size} cells, {expected.size} are expected"]
    apart = float(np.abs(expected - found).max()) / max(float(expected.max()), 1e-12)
    if apart <= ATTENTION_TOLERANCE:
        return []
    return [f"attention differs by {apart:.0%} of its maximum, {ATTENTION_TOLERANCE:.0%} may"]


def _thinned(attention: np.ndarray) -> np.ndarray:
    return attention[tuple(slice(None, None, max(1, -(-n // ATTENTION_CELLS))) for n in attention.shape)]
