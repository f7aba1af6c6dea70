"""BUSI: breast ultrasound with a class and a lesion mask for every picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from cphloc.config.argument_types import UnitInterval
from cphloc.data.case import AnnotationSource, Case, one_hot
from cphloc.data.dataset import Dataset, find_root
from cphloc.data.io.table import read_table
from cphloc.errors import DataError, InputError
from cphloc.structures.annotation import class_names
from cphloc.structures.rung import rung_fractions
from cphloc.structures.split import Split

CLASSES = {1: "benign", 2: "malignant"}


class Busi(Dataset):
    """766 ultrasound pictures of 256 x 256 pixels: normal, benign, malignant (Al-Dhabyani 2020, CC BY 4.0).

    Every picture has a lesion mask, empty for normal. Near-duplicates form clusters that are never divided
    between splits; a cluster is used as the patient, since the data set has no patient identifiers.

    Args:
        root: folder with ``cases.csv``, ``images/`` and ``masks/``; by default ``busi`` in the data folders.
        classes: number -> name. ``{1: benign, 2: malignant}`` is the default; one class of any name, such as
            ``{1: lesion}``, stands for both.
        masks: ``all``, or ``marked`` to use only the masks of the 135 pictures marked in ``cases.csv``, as in a data
            set with a label for all and a mask for few.
        annotated: rung -> fraction of the training patients whose masks are used as far as this rung: ``{mask: 0.1,
            boxes: 0.3}`` gives every tenth patient its mask, two tenths the boxes of their masks, and the others the
            label alone. ``region`` gives the side that the mask lies on. By default ``masks`` decides.

    Raises:
        NotFoundError: the folder does not exist.
        InputError: ``classes`` is neither of these.
    """

    dims = 2
    channels = ("us",)

    def __init__(
        self,
        root: str | None = None,
        classes: Mapping[int, str] | None = None,
        masks: Literal["marked", "all"] = "marked",
        annotated: Mapping[str, UnitInterval] | None = None,
    ) -> None:
        self.classes = class_names(classes or CLASSES)
        if set(self.classes.values()) != set(CLASSES.values()) and len(self.classes) != 1:
            msg = f"busi has no classes {', '.join(self.classes.values())}; take benign and malignant, or one for both"
            raise InputError(msg)
        joined = next(iter(self.classes)) if len(self.classes) == 1 else None
        numbers = {name: number for number, name in self.classes.items()}
        self._numbers = {name: joined or numbers[name] for name in CLASSES.values()} | {"normal": 0}
        self._every_mask = masks == "all"
        self.fractions = rung_fractions(annotated or {}, "busi")
        self.root = find_root("busi", root, "cases.csv")

    def _cases(self, split: Split) -> list[Case]:
        needed = ("case", "class", "has_mask", "duplicate_cluster", "split")
        rows = read_table(self.root / "cases.csv", needed)
        return [self._case(row) for row in rows if row["split"] == split]

    def _case(self, row: Mapping[str, str]) -> Case:
        name = row["case"]
        number = self._numbers.get(row["class"])
        if number is None:
            msg = f"{self.root / 'cases.csv'}: class '{row['class']}' is none of {', '.join(self._numbers)}; correct it"
            raise DataError(msg)
        annotation = AnnotationSource(
            mask=self.root / "masks" / f"{name}.png" if self._every_mask or row["has_mask"] == "1" else None,
            mask_classes={0: 0, 1: number},
            label=one_hot((number,) if number else (), len(self.classes)),
        )
        image = self.root / "images" / f"{name}.png"
        return Case(name, f"cluster_{row['duplicate_cluster']}", (image,), annotation)
