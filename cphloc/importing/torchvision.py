"""Import a detector of torchvision: RetinaNet, FCOS or Faster R-CNN."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from cphloc import paths
from cphloc.components.head.torchvision_detector import Detector
from cphloc.download import download
from cphloc.errors import CphlocError, DataError, InputError, NotFoundError, did_you_mean
from cphloc.importing.checkpoint import read_checkpoint
from cphloc.importing.imported import Imported, own_data
from cphloc.importing.names import without_prefix

_SCORES = {
    "retinanet": ("head.classification_head.cls_logits.weight", 9),
    "fcos": ("head.classification_head.cls_logits.weight", 1),
    "fasterrcnn": ("roi_heads.box_predictor.cls_score.weight", 1),
}
"""Kind of detector -> the tensor with a row for each class and anchor of a cell, and the number of anchors."""

_LIMITS: Mapping[str, dict[str, Any]] = {
    "retinanet": {"score_threshold": 0.05, "nms_threshold": 0.5, "detections": 300},
    "fcos": {"score_threshold": 0.2, "nms_threshold": 0.6, "detections": 100},
    "fasterrcnn": {"score_threshold": 0.05, "nms_threshold": 0.5, "detections": 100},
}
"""Torchvision's defaults."""

_SIZES = {"fasterrcnn_mobilenet_v3_large_320_fpn": (320, 640)}
_SIZE = (800, 1333)


def import_torchvision(
    name: str,
    checkpoint: str | Path | None = None,
    classes: Sequence[str] | None = None,
    size: Sequence[int] | None = None,
) -> Imported:
    """Translate a detector of torchvision.

    Args:
        name: function of ``torchvision.models.detection``, such as ``retinanet_resnet50_fpn``.
        checkpoint: its state dict; ``None``: torchvision's own weights, from the cache of torch or downloaded.
        classes: names of the labels 1, 2, ...; ``None``: those of torchvision's own weights.
        size: length of the shorter side to which pictures are scaled, and the most of the longer; default as
            torchvision's, 800 and 1333.

    Raises:
        NotFoundError: there is no such detector or checkpoint.
        DataError: the checkpoint is damaged, or asks for more than tensors, containers, numbers and texts.
        InputError: the classes are not those of the checkpoint.
    """
    if name not in get_args(Detector):
        hint = did_you_mean(name, get_args(Detector)) or f"known are {', '.join(get_args(Detector))}"
        msg = f"torchvision {name} cannot be imported; {hint}"
        raise NotFoundError(msg)
    kind, eps, own = name.partition("_")[0], 1e-5, None
    if checkpoint is None:
        checkpoint, own, eps = _own_weights(name)
    state = without_prefix(read_checkpoint(checkpoint).network())
    names = _names(classes or own, _labels(state, kind, checkpoint), checkpoint)
    shortest, longest = size or _SIZES.get(name, _SIZE)
    head = {"type": "torchvision_detector", "name": name, "classes": names, "shortest": shortest, "longest": longest}
    scale = {"type": "scale", "low": 0.0, "high": 255.0}
    data = {**own_data(names, ("red", "green", "blue")), "intensity": scale}
    model = {"backbone": {"type": "identity"}, "heads": {"boxes": {**head, **_LIMITS[kind], "norm_eps": eps}}}
    return Imported(
        framework="torchvision",
        architecture=name,
        recipe={"task": "detection", "dims": 2, "data": data, "model": model},
        weights=[{f"heads.boxes.network.{key}": value for key, value in _with_counts(state).items()}],
        source=Path(checkpoint),
        remarks=("It cannot be trained further here.",),
        prove_with=(name, str(shortest), str(longest), str(eps)),
    )


def _own_weights(name: str) -> tuple[Path, list[str], float]:
    """Return the file of torchvision's own weights, the names of their labels, and the epsilon of their norms."""
    from torchvision.models import get_model_weights

    weights: Any = get_model_weights(name)["DEFAULT"]
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    if not path.is_file():
        if paths.offline():
            msg = f"weights of torchvision {name} are not in {path.parent}, and CPHLOC_OFFLINE forbids downloading them"
            raise InputError(f"{msg}; give --checkpoint FILE")
        try:
            download([weights.url], path, f"torchvision {name}")
        except CphlocError as error:
            msg = f"weights of torchvision {name} cannot be downloaded ({error}); give --checkpoint FILE"
            raise InputError(msg) from error
    frozen_by_hand = name in ("retinanet_resnet50_fpn", "fasterrcnn_resnet50_fpn")  # torchvision sets their eps to 0
    return path, list(weights.meta["categories"][1:]), 0.0 if frozen_by_hand else 1e-5


def _labels(state: Mapping[str, Tensor], kind: str, checkpoint: str | Path) -> int:
    """Number of labels of a checkpoint, without the background."""
    key, anchors = _SCORES[kind]
    if key not in state:
        msg = f"{checkpoint}: has no tensor {key}, so it is no checkpoint of a {kind} of torchvision"
        raise DataError(msg)
    return len(state[key]) // anchors - 1


def _names(given: Sequence[str] | None, count: int, checkpoint: str | Path) -> dict[int, str]:
    """Names of the labels by number; names that occur twice, such as COCO's N/A, get their number."""
    if given is None or len(given) != count:
        msg = f"{checkpoint}: has {count} labels besides the background; name them with --classes"
        raise InputError(f"{msg} ({0 if given is None else len(given)} given)")
    return {
        number: name if list(given).count(name) == 1 else f"{name} {number}" for number, name in enumerate(given, 1)
    }


def _with_counts(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Add the counters of batch norms, which the frozen norms of torchvision do not have."""
    found = dict(state)
    for key in state:
        start = key.removesuffix("running_mean")
        if start != key:
            found.setdefault(f"{start}num_batches_tracked", torch.zeros((), dtype=torch.int64))
    return found
