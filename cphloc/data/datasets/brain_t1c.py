"""Brain tumours in slices of contrast-enhanced T1 MRI."""

from __future__ import annotations

from collections.abc import Mapping

from cphloc.config.argument_types import UnitInterval
from cphloc.data.case import AnnotationSource, Case, one_hot
from cphloc.data.dataset import Dataset, find_root, held_out
from cphloc.data.io.table import Row, read_table
from cphloc.errors import DataError, InputError
from cphloc.structures.annotation import class_names
from cphloc.structures.rung import rung_fractions
from cphloc.structures.split import Split

CLASSES = {1: "meningioma", 2: "glioma", 3: "pituitary"}


class BrainT1c(Dataset):
    """2,884 slices of 256 x 256 pixels, each with one of three tumours and its mask (Cheng 2015, CC BY 4.0).

    Slices are axial, coronal or sagittal; slices of one patient are in one split. There is no slice without a tumour.

    Args:
        root: folder with ``images/``, ``masks/`` and ``cases.csv``; by default ``brain_t1c`` in the data folders.
        classes: number -> name; by default ``{1: meningioma, 2: glioma, 3: pituitary}``. One class of any name, such as
            ``{1: tumour}``, stands for all three.
        masks: fraction of the training patients whose masks are used; of the others only the class is used.
        annotated: rung -> fraction of the training patients whose masks are used as far as this rung: ``{mask: 0.1,
            boxes: 0.3}`` gives every tenth patient its mask, two tenths the boxes of their masks, and the others the
            label alone. ``region`` gives the side that the mask lies on. By default ``masks`` decides.

    Raises:
        NotFoundError: the folder does not exist.
        InputError: ``classes`` is neither of these.
    """

    dims = 2
    channels = ("t1c",)

    def __init__(
        self,
        root: str | None = None,
        classes: Mapping[int, str] | None = None,
        masks: UnitInterval = 1.0,
        annotated: Mapping[str, UnitInterval] | None = None,
    ) -> None:
        self.classes = class_names(classes or CLASSES)
        if set(self.classes.values()) != set(CLASSES.values()) and len(self.classes) != 1:
            named = ", ".join(self.classes.values())
            msg = f"brain_t1c has no classes {named}; take {', '.join(CLASSES.values())}, or one for all three"
            raise InputError(msg)
        one = len(self.classes) == 1
        self._numbers = dict.fromkeys(CLASSES.values(), 1) if one else {n: k for k, n in self.classes.items()}
        self._masks = masks
        self.fractions = rung_fractions(annotated or {}, "brain_t1c")
        self.root = find_root("brain_t1c", root, "cases.csv")

    def _cases(self, split: Split) -> list[Case]:
        rows = read_table(self.root / "cases.csv", needed=("case", "label", "split", "patient"))
        return [self._case(row) for row in rows if row["split"] == split]

    def _case(self, row: Row) -> Case:
        number = self._numbers.get(row["label"])
        if number is None:
            known = ", ".join(self._numbers)
            msg = f"{self.root / 'cases.csv'}:{row.line}: label '{row['label']}' is none of {known}; correct it"
            raise DataError(msg)
        masked = row["split"] != "train" or held_out(row["patient"], self._masks)
        annotation = AnnotationSource(
            mask=self.root / "masks" / f"{row['case']}.png" if masked else None,
            mask_classes={1: number},
            label=one_hot((number,), len(self.classes)),
        )
        return Case(row["case"], row["patient"], (self.root / "images" / f"{row['case']}.jpg",), annotation)
