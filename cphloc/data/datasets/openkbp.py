"""OpenKBP: head-and-neck CT with organs at risk, of which only some were contoured in each patient."""

from __future__ import annotations

from collections.abc import Mapping

from cphloc.config.argument_types import UnitInterval
from cphloc.data.case import AnnotationSource, Case
from cphloc.data.dataset import Dataset, find_root
from cphloc.data.io.table import Row, read_table
from cphloc.errors import DataError, InputError, did_you_mean
from cphloc.structures.annotation import class_names
from cphloc.structures.rung import rung_fractions
from cphloc.structures.split import Split

ORGANS = {
    1: "brainstem",
    2: "spinal_cord",
    3: "parotid_right",
    4: "parotid_left",
    5: "mandible",
    6: "larynx",
    7: "oesophagus",
}
"""Value in the mask files -> organ; left and right are the patient's."""


class OpenKbp(Dataset):
    """Head-and-neck CT of 253 radiotherapy patients with clinical contours of seven organs (Babier 2021, MIT licence).

    Volumes have a median of 104 x 64 x 90 voxels, mostly of 2.5 x 3.9 x 3.9 mm. Nobody contoured all organs in every
    patient: an organ without a contour is unknown, not absent.

    Args:
        root: folder with ``images/``, ``labels/`` and ``cases.csv``; by default ``openkbp`` in the data folders.
        classes: number -> organ; the other organs become background. By default all seven.
        doubtful: whether to use contours that are listed as doubtful (plainly wrong or odd); by default those organs
            count as not contoured.
        annotated: rung -> fraction of the training patients whose masks are used as far as this rung: ``{mask: 0.1,
            boxes: 0.3}`` gives every tenth patient its mask, two tenths the boxes of their masks, and the others the
            label alone. ``region`` gives the side that the mask lies on. By default all contours are used.

    Raises:
        NotFoundError: the folder does not exist.
        InputError: ``classes`` names an organ that the data set does not have.
    """

    dims = 3
    channels = ("ct",)
    laterality = True

    def __init__(
        self,
        root: str | None = None,
        classes: Mapping[int, str] | None = None,
        doubtful: bool = False,
        annotated: Mapping[str, UnitInterval] | None = None,
    ) -> None:
        self.classes = class_names(classes or ORGANS)
        for name in self.classes.values():
            if name not in ORGANS.values():
                hint = did_you_mean(name, ORGANS.values()) or f"choose from {', '.join(ORGANS.values())}"
                msg = f"openkbp has no class '{name}'; {hint}"
                raise InputError(msg)
        numbers = {name: number for number, name in self.classes.items()}
        self._mask_classes = {value: numbers.get(name, 0) for value, name in ORGANS.items()}
        self._doubtful = doubtful
        self.fractions = rung_fractions(annotated or {}, "openkbp")
        self.root = find_root("openkbp", root, "cases.csv")

    def with_doubtful(self) -> OpenKbp | None:
        """Return this data set with the contours that are listed as doubtful; ``None`` where it uses them already."""
        return None if self._doubtful else OpenKbp(str(self.root), self.classes, doubtful=True)

    def _cases(self, split: Split) -> list[Case]:
        rows = read_table(self.root / "cases.csv", needed=("case", "split", "contoured", "doubtful"))
        return [self._case(row) for row in rows if row["split"] == split]

    def _case(self, row: Row) -> Case:
        image, mask = (self.root / folder / f"{row['case']}.nii.gz" for folder in ("images", "labels"))
        contoured = self._organs(row, "contoured") - (set() if self._doubtful else self._organs(row, "doubtful"))
        known = tuple(name in contoured for name in self.classes.values())
        annotation = AnnotationSource(mask=mask, mask_classes=self._mask_classes, known=known)
        return Case(row["case"], patient=row["case"], images=(image,), annotation=annotation)

    def _organs(self, row: Row, column: str) -> set[str]:
        """Organs in a cell, separated by spaces."""
        named = set(row[column].split())
        if unknown := sorted(named - set(ORGANS.values())):
            msg = f"{self.root / 'cases.csv'}:{row.line}: {column} names '{unknown[0]}', which is no organ of openkbp"
            raise DataError(msg)
        return named
