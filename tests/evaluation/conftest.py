"""Data sets of a few voxels, and a model whose answers can be read off the image."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from cphloc.inference.localizer import Localizer
from cphloc.modeling.model import Model
from cphloc.ops.targets import Detections, Prediction
from cphloc.recipe.recipe import Recipe, load
from cphloc.structures.levels import Level

CLASSES = {1: "mass", 2: "cyst"}
PARTS = ("mask_probabilities", "detections", "attention", "label_probabilities")


class Identity(nn.Module):
    """A backbone whose only feature is the image."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.levels = (Level(1, (1,) * dims),)
        self.one = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        return (x * self.one,)


class ReadsImage(nn.Module):
    """A head that takes the image for its answer: voxels of value 1 or 2 are of that class, the others background.

    One box of score 0.9 around each class; label probabilities are the largest value of the image, up to 0.99, for
    class 1 and 0.5 for class 2; attention is even over the voxels of both classes. It gives ``parts`` of these alone;
    with ``objects`` also outlines, which fill the boxes.
    """

    classes: ClassVar = CLASSES

    def __init__(self, parts: Sequence[str] = PARTS) -> None:
        super().__init__()
        self.parts = parts

    def forward(self, pyramid: Sequence[torch.Tensor]) -> torch.Tensor:
        return pyramid[0]

    def decode(self, raw: torch.Tensor) -> Prediction:
        image = raw[:, 0]
        mask = torch.where(image >= 1, image, 0).long()
        attention = (mask > 0).float() + 1e-9
        top = image.flatten(1).amax(1).clamp(max=0.99)
        everything = Prediction(
            mask_probabilities=nn.functional.one_hot(mask, 3).movedim(-1, 1).float(),
            detections=[_boxes(m) for m in mask],
            attention=attention / attention.flatten(1).sum(1).reshape(-1, *(1,) * (image.dim() - 1)),
            label_probabilities=torch.stack([top, torch.full_like(top, 0.5)], 1),
        )
        if "objects" in self.parts:
            everything = replace(everything, detections=[_filled(found) for found in everything.detections or []])
        return Prediction(**{part: getattr(everything, part) for part in self.parts if part != "objects"})


def _boxes(mask: torch.Tensor) -> Detections:
    there = [number for number in CLASSES if (mask == number).any()]
    where = [(mask == number).nonzero().float() for number in there]
    boxes = [torch.cat([w.amin(0), w.amax(0) + 1]) for w in where]
    stacked = torch.stack(boxes) if boxes else torch.zeros(0, 2 * mask.dim())
    return Detections(stacked, torch.full((len(there),), 0.9), torch.tensor(there, dtype=torch.long))


def _filled(found: Detections) -> Detections:
    return replace(found, masks=torch.ones(len(found), *(2,) * (found.boxes.shape[1] // 2)))


def reader(dims: int, parts: Sequence[str] = PARTS) -> Model:
    """A model that predicts ``parts`` as `ReadsImage` does."""
    return Model(Identity(dims), None, {"all": ReadsImage(parts)}).eval()


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of the test's own."""
    monkeypatch.setenv("CPHLOC_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def image_reader() -> Callable[..., Model]:
    """`reader`."""
    return reader


def recipe_of(root: Path, dims: int, shape: Sequence[int]) -> Recipe:
    """A recipe on the images of ``root``, whose values the model sees as they are."""
    heads = {"mask": {"type": "unet", "classes": CLASSES}}
    data = {"type": "image_folder", "root": str(root), "classes": list(CLASSES.values())}
    data |= {"voxel_mm": [1.0] * dims, "intensity": "none", "patch": list(shape), "channels": ["image"]}
    model = {"backbone": {"type": "conv_encoder", "widths": [4, 8]}, "heads": heads}
    return load({"name": "reader", "task": "segmentation", "dims": dims, "data": data, "model": model})


@pytest.fixture
def hand_made(tmp_path: Path) -> Callable[..., Localizer]:
    """Writes a data set and gives a model that reads its images.

    Each row has ``case``, ``split``, ``image`` and what is known: ``mask``, ``boxes``, ``label``; arrays go to files.
    """

    def make(rows: Sequence[Mapping[str, Any]], parts: Sequence[str] = PARTS) -> Localizer:
        root = tmp_path / "data"
        root.mkdir()
        shape = rows[0]["image"].shape
        columns = ("case", "patient", "split", "image", "mask", "boxes", "label")
        with (root / "cases.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            for row in rows:
                writer.writerow({k: _cell(root, row["case"], k, v) for k, v in row.items()})
        return Localizer(reader(len(shape), parts), recipe_of(root, len(shape), shape))

    return make


def _cell(root: Path, case: str, column: str, value: Any) -> str:
    if isinstance(value, np.ndarray):
        np.save(root / f"{case}-{column}.npy", value)
        return f"{case}-{column}.npy"
    return value if isinstance(value, str) else json.dumps(value)


@pytest.fixture
def seen_by() -> Callable[[nn.Module, Callable[[], Any]], np.ndarray]:
    """Function from a network and a call to the input of the network's backbone during the call."""

    def find(network: nn.Module, call: Callable[[], Any]) -> np.ndarray:
        seen = []
        handle = network.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
        call()
        handle.remove()
        assert len(seen) == 1
        return seen[0][0].numpy()

    return find
