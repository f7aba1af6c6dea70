"""Data sets in the layout of nnU-Net, nnDetection or the Medical Segmentation Decathlon."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

from cphloc.config.argument_types import NonNegativeInt, UnitInterval
from cphloc.config.json_file import read_json, well_formed
from cphloc.data.case import AnnotationSource, Case, annotation_or_problem
from cphloc.data.dataset import OWN_ROOT, Dataset, find_root, hashed_split
from cphloc.errors import DataError
from cphloc.structures.annotation import IGNORE
from cphloc.structures.split import Split

_CHANNEL = re.compile(r"_\d{4}$")


class NnUnet(Dataset):
    """``imagesTr/``, ``labelsTr/`` and ``dataset.json`` of nnU-Net (Isensee 2021) or a Decathlon task (Antonelli 2022).

    The values of ``labels`` in ``dataset.json`` get the class numbers 1..K in rising order, without background and
    ``ignore``; `file_numbers` gives the values.

    If ``labelsTr/<case>.json`` exists beside a mask, as in nnDetection (Baumgartner 2021), the mask is an instance
    mask, ``{"instances": {"1": 0, "2": 1}}`` maps each object to its class, and classes in ``labels`` start at 0.

    Channels are separate files ``<case>_0000``, ``<case>_0001`` ... or one file ``<case>`` (Decathlon). The test images
    of these layouts have no labels, so val and test are taken from the training cases, by a hash of the case.

    Args:
        root: folder of ``dataset.json``.
        dims: 2 for pictures, 3 for volumes.
        val: fraction of the cases in the validation split.
        test: fraction of the cases in the test split.
        split_seed: another number divides the cases otherwise.

    Raises:
        NotFoundError: the folder does not exist.
        DataError: ``dataset.json`` is damaged, or labels are regions of several values.
    """

    def __init__(
        self,
        root: str | None = None,
        dims: Literal[2, 3] = 3,
        val: UnitInterval = 0.15,
        test: UnitInterval = 0.15,
        split_seed: NonNegativeInt = 0,
    ) -> None:
        self.root = find_root("nnunet", root, "dataset.json", OWN_ROOT)
        facts = self._facts()
        channels = facts.get("channel_names") or facts.get("modality") or facts.get("modalities") or {"0": "image"}
        with well_formed(self.root / "dataset.json"):
            self.channels = tuple(str(channels[k]).lower() for k in sorted(channels, key=int))
        self._numbered = next((self.root / "labelsTr").glob("*.json"), None) is not None
        background = set() if self._numbered else {0}
        self.classes, self._values = _classes(facts["labels"], self.root / "dataset.json", background)
        self.about = _about(facts)
        self.dims = dims
        self.val, self.test, self.split_seed = val, test, split_seed

    @property
    def file_numbers(self) -> Mapping[int, int]:
        """Class number -> value in ``dataset.json``."""
        return {number: value for value, number in self._values.items() if number in self.classes}

    def _facts(self) -> dict[str, Any]:
        path = self.root / "dataset.json"
        facts = read_json(path)
        if not isinstance(facts, dict) or not isinstance(facts.get("labels"), dict):
            msg = f"{path}: has no 'labels'; it must map class names to values"
            raise DataError(msg)
        return facts

    def _cases(self, split: Split) -> list[Case]:
        return [
            case
            for case in self._training()
            if hashed_split(self.patient_of(case.id), self.val, self.test, self.split_seed) == split
        ]

    def _training(self) -> Iterator[Case]:
        """Every case that has a mask or an image; a missing file is reported when the case is read."""
        masks, images = (self._files(folder) for folder in ("labelsTr", "imagesTr"))
        lone = {_CHANNEL.sub("", name): ending for name, ending in images.items() if name not in masks}
        for name, ending in sorted({**lone, **masks}.items()):
            separate = tuple(f"{name}_{number:04d}" for number in range(len(self.channels)))
            files = (name,) if separate[0] not in images and name in images else separate
            paths = tuple(self.root / "imagesTr" / f"{file}{ending}" for file in files)
            mask = self.root / "labelsTr" / f"{name}{ending}"
            yield Case(name, name, paths, annotation_or_problem(partial(self._annotation, mask)))

    def _files(self, folder: str) -> dict[str, str]:
        """Name -> ending of the images in a folder."""
        if not (self.root / folder).is_dir():
            msg = f"{self.root / folder}: does not exist; the layout of nnU-Net keeps its training files there"
            raise DataError(msg)
        names = [p.name for p in (self.root / folder).iterdir() if not p.name.startswith(".") and p.suffix != ".json"]
        endings = {name: ".nii.gz" if name.endswith(".nii.gz") else Path(name).suffix for name in names}
        return {name.removesuffix(ending): ending for name, ending in endings.items()}

    def _annotation(self, mask: Path) -> AnnotationSource:
        if not self._numbered:
            rois = {name: number for number, name in self.classes.items()}
            known = (True,) * len(self.classes)
            return AnnotationSource(mask=mask, mask_classes=self._values, rois=rois, known=known)
        path = Path(str(mask).removesuffix(".gz")).with_suffix(".json")
        try:
            stated = read_json(path)["instances"]
            return AnnotationSource(instances={mask: {int(value): self._values[int(c)] for value, c in stated.items()}})
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            msg = f"{path}: must state the class of every object, as in {{'instances': {{'1': 0}}}} ({error!r})"
            raise DataError(msg) from error


_ABOUT = {"name": "name", "licence": "licence", "license": "licence", "reference": "citation", "url": "source"}
"""Key of dataset.json -> key of ``data.about``."""


def _about(facts: Mapping[str, Any]) -> dict[str, str]:
    return {
        key: facts[stated] for stated, key in _ABOUT.items() if isinstance(facts.get(stated), str) and facts[stated]
    }


def _classes(labels: dict[str, Any], path: Path, background: set[int]) -> tuple[dict[int, str], dict[int, int]]:
    """Class number -> name, and value in the files -> class number.

    ``labels`` maps names to values (nnU-Net) or values to names (Decathlon).
    """
    pairs = [(v, k) if not str(k).isdigit() else (k, v) for k, v in labels.items()]
    try:
        by_value = {int(value): str(name) for value, name in pairs}
    except (TypeError, ValueError, OverflowError) as error:
        msg = f"{path}: labels must each be one whole number, not a region of several; got {labels}"
        raise DataError(msg) from error
    ignored = {value for value, name in by_value.items() if name == "ignore"}
    values = sorted(set(by_value) - ignored - background)
    numbers = {value: number for number, value in enumerate(values, start=1)}
    classes = {number: by_value[value] for value, number in numbers.items()}
    if len(set(classes.values())) < len(classes):
        msg = f"{path}: labels have one name for two values, {labels}; give every value a name of its own"
        raise DataError(msg)
    return classes, {**dict.fromkeys(background, 0), **numbers, **dict.fromkeys(ignored, IGNORE)}
