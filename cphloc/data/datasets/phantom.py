"""Phantom: synthetic CT or mammograms with exact masks; needs no download."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

import numpy as np

from cphloc import paths
from cphloc.config import jsonio
from cphloc.config.argument_types import NonNegativeInt, PositiveFloat, PositiveInt, UnitInterval
from cphloc.data.case import AnnotationSource, Case, one_hot
from cphloc.data.dataset import Dataset
from cphloc.data.io.write import write_image
from cphloc.data.pipeline.phantom import Half, Phantom, Scene, draw_phantom
from cphloc.errors import InputError
from cphloc.files import atomic_folder
from cphloc.structures.boxes import boxes_of
from cphloc.structures.geometry import Geometry
from cphloc.structures.instances import of_instances
from cphloc.structures.rung import Rung, rung_fractions
from cphloc.structures.split import SPLITS, Split


class PhantomCases(Dataset):
    """Synthetic cases, drawn by `cphloc.data.pipeline.phantom.draw_phantom` and stored as MetaImage files in the cache.

    Args:
        size: image size ``(*S)`` in voxels; two numbers for 2-D images.
        voxel_mm: voxel size; by default 1 mm, and 3 mm between the slices of a volume.
        modality: ``ct`` or ``mammogram``.
        cases: number of cases per split.
        positive: fraction of cases that contain objects.
        objects: range of the number of objects in a positive case.
        diameter_mm: range of the diameters of the objects in mm.
        distractors: range of the number of distractors.
        contrast: intensity difference between objects and tissue, in standard deviations of the tissue.
        sides: whether there are two classes, left mass and right mass, instead of one.
        annotated: rung -> fraction of the training cases that have an annotation of at least this rung:
            ``{mask: 0.1, boxes: 0.3}`` leaves 70 % of them with a label alone. Validation and test cases have masks.
        box_scale: factor by which boxes are enlarged in training cases that are annotated only with boxes.
        placement: split -> half of the image in which objects and distractors are placed: ``left``, ``right`` or
            ``any``.
        cue_mm: distance in mm of a small mark beside each object; only objects with a bright mark are in the mask.
        touching: place objects so that most touch another one, like nuclei, and give an instance mask.
        max_train_cases: largest number of training cases to use; the content of a case does not depend on it.
        seed: random seed of the data set.

    Raises:
        InputError: a range is negative or its end is below its start, or fractions are outside 0..1 or increase with
            the rung.
    """

    prior = False
    """Whether a case has an earlier image, and only what is new in its mask, as in `phantom_pair`."""

    def __init__(
        self,
        size: Sequence[PositiveInt] = (24, 64, 64),
        voxel_mm: Sequence[PositiveFloat] | None = None,
        modality: Literal["ct", "mammogram"] = "ct",
        cases: Mapping[str, NonNegativeInt] | None = None,
        positive: UnitInterval = 0.8,
        objects: tuple[int, int] = (1, 3),
        diameter_mm: tuple[float, float] = (8.0, 20.0),
        distractors: tuple[int, int] = (0, 3),
        contrast: PositiveFloat = 4.0,
        sides: bool = False,
        annotated: Mapping[str, UnitInterval] | None = None,
        box_scale: PositiveFloat = 1.0,
        placement: Mapping[str, Half] | None = None,
        cue_mm: PositiveFloat | None = None,
        touching: bool = False,
        max_train_cases: PositiveInt | None = None,
        seed: NonNegativeInt = 0,
    ) -> None:
        self.dims = len(size)
        if voxel_mm is None:
            voxel_mm = (1.0,) * self.dims if self.dims == 2 else (3.0, 1.0, 1.0)
        for name, (low, high) in {"objects": objects, "diameter_mm": diameter_mm, "distractors": distractors}.items():
            if not 0 <= low <= high:
                msg = f"phantom: {name} must be a range [low, high] with 0 <= low <= high, got [{low}, {high}]"
                raise InputError(msg)
        self.scene = Scene(
            tuple(size),
            tuple(voxel_mm),
            modality,
            (objects[0], objects[1]),
            (diameter_mm[0], diameter_mm[1]),
            (distractors[0], distractors[1]),
            contrast,
            sides,
            cue_mm=cue_mm,
        )
        self.placement = {"train": "any", "val": "any", "test": "any", **(placement or {})}
        self.box_scale, self.max_train_cases = box_scale, max_train_cases
        self.touching = touching
        self.channels: tuple[str, ...] = (modality,)
        self.laterality = sides
        self.classes = {1: "left mass", 2: "right mass"} if sides else {1: "mass"}
        self.counts = {"train": 40, "val": 10, "test": 10, **(cases or {})}
        self.positive = positive
        self.annotated = rung_fractions(annotated or {}, "phantom") or {Rung.MASK: 1.0}
        self.seed = seed

    def _root(self, split: Split) -> Path:
        """Folder of a split's cases, named by a hash of the settings that decide them."""
        drawn = [asdict(self._scene(split)), self.counts[split], self.positive, self.seed]
        settings = json.dumps([*drawn, "prior"] if self.prior else drawn)
        settings = f"{settings} touching" if self.touching else settings
        return paths.cached("data", "phantom", hashlib.sha256(settings.encode()).hexdigest()[:16])

    def _scene(self, split: Split) -> Scene:
        return replace(self.scene, half=self.placement[split])

    def _cases(self, split: Split) -> list[Case]:
        cases = self.counts[split]
        used = min(cases, self.max_train_cases or cases) if split == "train" else cases
        return [self._case(split, number) for number in range(used)]

    def _case(self, split: Split, number: int) -> Case:
        name = f"phantom_{split}_{number:04d}"
        folder = self._root(split) / name
        if not folder.is_dir():
            self._draw(folder, split, number)
        facts = json.loads((folder / "facts.json").read_text())
        rank = self._ranks(split)[number]
        rung = Rung.MASK
        if split == "train":
            rung = max((r for r, fraction in self.annotated.items() if rank < fraction), default=Rung.LABEL)
        apart = self.touching and rung >= Rung.MASK
        numbers: dict[int, int] = dict(enumerate(facts["box_classes"], start=1))
        annotation = AnnotationSource(
            mask=folder / "mask.mha" if rung >= Rung.MASK and not apart else None,
            instances={folder / "instances.mha": numbers} if apart else None,
            boxes=tuple(self._scaled(box) for box in facts["boxes"]) if rung == Rung.BOXES else None,
            box_classes=tuple(facts["box_classes"]) if rung == Rung.BOXES else (),
            region=folder / "region.mha" if rung == Rung.REGION else None,
            label=one_hot(tuple(facts["box_classes"]), len(self.classes)),
        )
        images = [folder / f"{image}.mha" for image in (("image", "prior") if self.prior else ("image",))]
        return Case(name, name, tuple(images), annotation)

    def _scaled(self, box: Sequence[float]) -> tuple[float, ...]:
        """Scale a box by ``box_scale`` about its centre, and clip it to the image."""
        lo, hi = np.split(np.asarray(box, float), 2)
        middle, half = (lo + hi) / 2, self.box_scale * (hi - lo) / 2
        edges = np.concatenate([np.maximum(middle - half, 0), np.minimum(middle + half, self.scene.size)])
        return tuple(edges.tolist())

    def _ranks(self, split: Split, purpose: int = 0) -> np.ndarray:
        """Return a number in [0, 1) per case, evenly spaced and shuffled, so that a fraction of cases is exact."""
        rng = np.random.default_rng((self.seed, SPLITS.index(split), purpose))
        return rng.permutation(self.counts[split]) / max(1, self.counts[split])

    def _draw(self, folder: Path, split: Split, number: int) -> None:
        positive = self._ranks(split, purpose=1)[number] < self.positive
        seed = number * len(SPLITS) + SPLITS.index(split)
        drawn = draw_phantom(self._scene(split), positive, self.seed * 1_000_003 + seed, self.prior, self.touching)
        geometry = Geometry.regular(self.scene.size, self.scene.spacing_mm)
        boxes, box_classes = _objects(drawn, self.touching)
        facts = {"boxes": boxes.tolist(), "box_classes": box_classes.tolist()}
        with atomic_folder(folder) as aside:
            for name in ("image", "mask", "region", "prior", *(("instances",) if self.touching else ())):
                if (array := getattr(drawn, name)) is not None:
                    write_image(aside / f"{name}.mha", array, geometry)
            (aside / "facts.json").write_text(jsonio.dumps(facts), encoding="utf-8")


def _objects(drawn: Phantom, apart: bool) -> tuple[np.ndarray, np.ndarray]:
    """Boxes and classes of connected components, or of each object if they are told apart."""
    if not apart or drawn.instances is None:
        return boxes_of(drawn.mask)
    values, first = np.unique(drawn.instances, return_index=True)
    classes = drawn.mask.ravel()[first].astype(int)
    objects = of_instances(drawn.instances, {int(v): int(c) for v, c in zip(values, classes, strict=True) if v})
    return np.asarray(objects.boxes), np.asarray(objects.box_classes)
