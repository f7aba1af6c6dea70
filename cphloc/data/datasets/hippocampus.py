"""Hippocampus: Medical Segmentation Decathlon task 04."""

from __future__ import annotations

from pathlib import Path

from cphloc.data.case import AnnotationSource, Case
from cphloc.data.dataset import Dataset, find_root
from cphloc.data.io.table import read_table
from cphloc.structures.split import Split

SAMPLE = Path(__file__).parent.parent / "sample" / "hippocampus"


class Hippocampus(Dataset):
    """T1 MRI around the hippocampus, masks of its anterior and posterior part (Simpson 2019, arXiv:1902.09063).

    140 train, 20 val and 40 test cases of about 35 x 50 x 36 voxels of 1 mm. Fourteen of them ship with cphloc; they
    are used where ``root`` is ``sample``.

    Args:
        root: folder with ``images/``, ``labels/`` and ``cases.csv``; ``sample`` for the shipped cases; by default
            ``hippocampus`` in the data folders.

    Raises:
        NotFoundError: the folder does not exist.
    """

    dims = 3
    channels = ("t1",)

    def __init__(self, root: str | None = None) -> None:
        self.root = SAMPLE if root == "sample" else find_root("hippocampus", root, "cases.csv")
        self.classes = {1: "anterior", 2: "posterior"}

    def _cases(self, split: Split) -> list[Case]:
        rows = read_table(self.root / "cases.csv", needed=("case", "split"))
        return [self._case(row["case"]) for row in rows if row["split"] == split]

    def _case(self, name: str) -> Case:
        image, mask = (self.root / folder / f"{name}.nii.gz" for folder in ("images", "labels"))
        return Case(name, patient=name, images=(image,), annotation=AnnotationSource(mask=mask))
