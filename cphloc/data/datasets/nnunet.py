"""Any data set in the layout of nnU-Net or the Medical Segmentation Decathlon."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from cphloc.annotation import IGNORE
from cphloc.argument_types import UnitInterval
from cphloc.data.case import Case, Marks
from cphloc.data.dataset import Dataset, Split, find_root, hashed_split
from cphloc.errors import DataError


class NnUnet(Dataset):
    """``imagesTr/``, ``labelsTr/`` and ``dataset.json`` of nnU-Net (Isensee 2021) or a Decathlon task (Antonelli 2022).

    Channels are separate files ``<case>_0000``, ``<case>_0001`` ... or one file ``<case>`` (Decathlon). Their test
    images have no labels, so val and test come out of the training cases, by a hash of the case.

    Args:
        root: folder of ``dataset.json``.
        dims: 2 for pictures, 3 for volumes.
        val: fraction of the cases that validate.
        test: fraction of the cases that test.

    Raises:
        NotFoundError: the folder does not exist.
        DataError: ``dataset.json`` is damaged, or labels are regions of several values.
    """

    def __init__(
        self, root: str | None = None, dims: Literal[2, 3] = 3, val: UnitInterval = 0.15, test: UnitInterval = 0.15
    ) -> None:
        self.root = find_root("nnunet", root, "dataset.json")
        facts = self._facts()
        channels = facts.get("channel_names") or facts.get("modality") or {"0": "image"}
        self.channels = tuple(str(channels[k]).lower() for k in sorted(channels, key=int))
        self.classes, self._values = _classes(facts["labels"], self.root / "dataset.json")
        self.dims = dims
        self.val, self.test = val, test

    def _facts(self) -> dict[str, Any]:
        path = self.root / "dataset.json"
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            msg = f"{path}: cannot be read as JSON ({error}); copy it again"
            raise DataError(msg) from error
        if not isinstance(facts, dict) or not isinstance(facts.get("labels"), dict):
            msg = f"{path}: has no 'labels'; it must map class names to values"
            raise DataError(msg)
        return facts

    def _cases(self, split: Split) -> list[Case]:
        return [case for case in self._training() if hashed_split(case.id, self.val, self.test) == split]

    def _training(self) -> Iterator[Case]:
        for mask in sorted((self.root / "labelsTr").iterdir()):
            name, _, ending = mask.name.partition(".")
            if not name:
                continue
            images = tuple(self._image(name, number, ending) for number in range(len(self.channels)))
            together = self.root / "imagesTr" / mask.name
            images = (together,) if not images[0].exists() and together.exists() else images
            yield Case(name, name, images, Marks(mask=mask, mask_classes=self._values))

    def _image(self, name: str, channel: int, ending: str) -> Path:
        return self.root / "imagesTr" / f"{name}_{channel:04d}.{ending}"


def _classes(labels: dict[str, Any], path: Path) -> tuple[dict[int, str], dict[int, int]]:
    """Classes 1..K, and the class of every value in the masks, from either direction of ``labels``."""
    pairs = [(v, k) if not str(k).isdigit() else (k, v) for k, v in labels.items()]
    try:
        by_value = {int(value): str(name) for value, name in pairs}
    except (TypeError, ValueError) as error:
        msg = f"{path}: labels must each be one whole number, not a region of several; got {labels}"
        raise DataError(msg) from error
    ignored = {value for value, name in by_value.items() if name == "ignore"}
    values = sorted(set(by_value) - ignored - {0})
    numbers = {value: number for number, value in enumerate(values, start=1)}
    classes = {number: by_value[value] for value, number in numbers.items()}
    return classes, {0: 0, **numbers, **dict.fromkeys(ignored, IGNORE)}
