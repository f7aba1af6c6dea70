"""Compare an imported model with the outputs of the framework that trained it.

A reference folder holds, for each case, any of:

- ``CASE.npz`` with ``input`` ``(N, C, *S)`` and ``logits``: a network's input and its output;
- for detectors ``CASE_0000.png`` and ``CASE.npz`` with ``boxes`` ``(n, 4)`` as x, y, x, y, ``scores`` and ``labels``;
  or ``CASE_0000.nii.gz`` with ``boxes`` ``(n, 6)`` as x, y, z, x, y, z from the edge of the first voxel; boxes without
  extent are left out;
- ``CASE_0000.nii.gz``, ``CASE_0001.nii.gz``, ... and ``CASE.nii.gz``: the channels of an image and its predicted mask;
- ``facts.json`` with ``version`` of the framework, ``seconds`` for all cases, and ``rounding``: voxels whose class its
  own half precision changes.
"""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from cphloc.config.json_file import read_json
from cphloc.data.io.read import read_volume
from cphloc.errors import DataError, NotFoundError
from cphloc.inference.localizer import Localizer
from cphloc.zoo.imported import Proof

TOLERANCE = 1e-4
"""Largest allowed difference of outputs, relative to their largest magnitude (at least 1)."""

MASKS = 1e-3
"""Largest allowed share of voxels with another class: where two classes score the same, rounding decides."""

BOXES = 1e-3
"""Largest allowed difference of the sides of boxes, in pixels, and of scores."""

_FIRST = re.compile(r"(.+)_0000(\.nii\.gz|\.nii|\.nrrd|\.mha|\.png)")


def compare(localizer: Localizer, folder: Path, by: Literal["prove", "reference"]) -> Proof:
    """Compare a model with a reference folder.

    Args:
        localizer: the imported model.
        folder: see the module.
        by: who made the folder.

    Raises:
        NotFoundError: the folder holds no case.
        DataError: a file is damaged, or the outputs differ by more than `TOLERANCE` or `MASKS`.
    """
    arrays = sorted(folder.glob("*.npz"))
    images = {found[1]: found[2] for path in sorted(folder.iterdir()) if (found := _FIRST.fullmatch(path.name))}
    if not arrays and not images:
        msg = f"{folder}: holds neither CASE.npz with input and logits, nor CASE_0000.nii.gz with CASE.nii.gz"
        raise NotFoundError(msg)
    stored = {path.stem: _arrays(path) for path in arrays}
    detected = {case: given for case, given in stored.items() if "boxes" in given}
    pairs = [_outputs(localizer, folder / case, given) for case, given in stored.items() if case not in detected]
    started = time.perf_counter()
    boxes = [
        _boxes(localizer, _images(localizer, folder, case, images.get(case)), given) for case, given in detected.items()
    ]
    masks = [_masks(localizer, folder, case, ending) for case, ending in images.items() if case not in detected]
    seconds = time.perf_counter() - started
    facts = read_json(folder / "facts.json") if (folder / "facts.json").is_file() else {}
    theirs = facts.get("seconds")
    proof = Proof(
        by=by,
        version=facts.get("version"),
        cases=max(len(arrays), len(images)),
        outputs=max((difference for difference, _ in pairs), default=None),
        scale=max((scale for _, scale in pairs), default=None),
        voxels=sum(count for count, _ in masks),
        differing=sum(differing for _, differing in masks),
        rounding=facts.get("rounding", 0),
        boxes=sum(count for count, _, _ in boxes),
        box_pixels=max((sides for _, sides, _ in boxes), default=None),
        box_scores=max((scores for _, _, scores in boxes), default=None),
        framework_seconds=theirs if images else None,
        seconds=round(seconds, 3) if images and theirs else None,
    )
    return _equal(proof, folder)


def _equal(proof: Proof, folder: Path) -> Proof:
    """Return a proof that the model is equal.

    Raises:
        DataError: it is not.
    """
    if proof.outputs is not None and not proof.outputs <= TOLERANCE * max(1.0, proof.scale or 1.0):
        what = f"outputs of at most {proof.scale:.3g} differ by {proof.outputs:.1e}"
    elif proof.differing > MASKS * max(proof.voxels, 1):
        what = f"{proof.differing:,} of {proof.voxels:,} voxels of masks differ"
    elif not max(proof.box_pixels or 0.0, proof.box_scores or 0.0) <= BOXES:
        what = f"boxes differ by {proof.box_pixels:.1e} pixels, their scores by {proof.box_scores:.1e}"
    else:
        return proof
    msg = f"{folder}: the imported model is not equal to the reference: {what}; nothing was written"
    raise DataError(msg)


def _outputs(localizer: Localizer, path: Path, given: dict[str, np.ndarray]) -> tuple[float, float]:
    """Return the largest difference of the network's outputs, and their largest magnitude."""
    x = torch.from_numpy(given["input"]).float()
    with torch.inference_mode():
        raw = next(iter(localizer.model.outputs(x).values()))
    if isinstance(raw, list):  # of the networks of an ensemble
        raw = torch.stack(raw).mean(dim=0)
    raw = raw[0] if isinstance(raw, tuple) else raw
    expected = torch.from_numpy(given["logits"]).float()
    if raw.shape != expected.shape:
        msg = f"{path}: logits have shape {tuple(expected.shape)}, the imported network gives {tuple(raw.shape)}"
        raise DataError(msg)
    return float((raw - expected).abs().max()), float(expected.abs().max())


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            found = {name: stored[name] for name in stored.files}
    except Exception as error:  # numpy and zipfile raise errors of many types for damaged files
        msg = f"{path}: cannot be read ({error}); save it again with numpy.savez"
        raise DataError(msg) from None
    names = ("boxes", "scores", "labels") if "boxes" in found else ("input", "logits")
    if lacking := set(names) - set(found):
        stated = ", ".join(f"{name}=..." for name in names)
        msg = f"{path}: has no array '{min(lacking)}'; save all: numpy.savez(FILE, {stated})"
        raise DataError(msg)
    return found


def _images(localizer: Localizer, folder: Path, case: str, ending: str | None) -> dict[str, Any]:
    """Return the files of a case by channel; of a picture, one holds all colours."""
    names = localizer.recipe.channels[:1] if ending == ".png" else localizer.recipe.channels
    return {name: folder / f"{case}_{number:04d}{ending}" for number, name in enumerate(names)}


def _predicted(localizer: Localizer, files: dict[str, Any]) -> Any:
    return localizer.predict(files if len(files) > 1 else next(iter(files.values())))


def _boxes(localizer: Localizer, files: dict[str, Any], given: dict[str, np.ndarray]) -> tuple[int, float, float]:
    """Return the number of boxes of an image, and the largest difference of their sides and of their scores."""
    if absent := [path for path in files.values() if not path.is_file()]:
        msg = f"{absent[0]}: is missing; boxes need the image that they are of"
        raise NotFoundError(msg)
    dims = localizer.recipe.dims
    extent = given["boxes"].reshape(-1, 2, dims)[:, 1] > given["boxes"].reshape(-1, 2, dims)[:, 0]
    kept = (given["labels"] > 0) & extent.all(axis=1)  # torchvision never trains label 0, the background
    order = [*reversed(range(dims)), *reversed(range(dims, 2 * dims))]
    theirs = np.column_stack([given["boxes"][kept].reshape(-1, 2 * dims)[:, order], given["scores"][kept]])
    found = _predicted(localizer, files).boxes
    ours = np.array([[*box.voxels, box.score] for box in found or ()]).reshape(-1, 2 * dims + 1)
    if len(ours) != len(theirs):
        image = next(iter(files.values()))
        msg = f"{image}: has {len(theirs)} boxes in the reference, the imported model gives {len(ours)}"
        raise DataError(msg)
    numbers = {name: number for number, name in localizer.classes.items()}
    labels = np.array([numbers[box.name] for box in found or ()])
    distance = np.abs(theirs[:, None, :-1] - ours[None, :, :-1]).max(axis=2)
    distance = np.where(given["labels"][kept][:, None] == labels[None], distance, np.inf)
    nearest = distance.argmin(axis=1) if len(ours) else np.zeros(0, int)
    if len(set(nearest.tolist())) != len(nearest):
        return len(ours), float("inf"), float("inf")
    scores = np.abs(theirs[:, -1] - ours[nearest, -1])
    return len(ours), float(distance.min(axis=1).max(initial=0)), float(scores.max(initial=0))


def _masks(localizer: Localizer, folder: Path, case: str, ending: str) -> tuple[int, int]:
    """Return the number of voxels of a mask, and of those with another class."""
    files = _images(localizer, folder, case, ending)
    expected = folder / f"{case}{ending}"
    if absent := [path for path in (*files.values(), expected) if not path.is_file()]:
        msg = f"{absent[0]}: is missing; a case needs one file per channel and its predicted mask"
        raise DataError(msg)
    found = _predicted(localizer, files)
    mask, volume = found.masks, read_volume(expected, None, localizer.recipe.dims)
    truth = volume.array[0]
    if mask is None or mask.shape != truth.shape:
        msg = f"{expected}: its grid is {truth.shape}, that of the prediction {None if mask is None else mask.shape}"
        raise DataError(msg)
    if not volume.geometry.same_grid(found.image.geometry):
        msg = f"{expected}: lies elsewhere than its image in space; save it with the geometry of the image"
        raise DataError(msg)
    return int(truth.size), int(np.count_nonzero(mask != truth))
