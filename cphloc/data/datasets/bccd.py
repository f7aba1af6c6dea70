"""Blood cells in microscope photographs, with boxes."""

from __future__ import annotations

from cphloc.data.case import Case
from cphloc.data.dataset import Dataset, find_root
from cphloc.data.datasets.voc import voc_cases
from cphloc.structures.split import Split


class Bccd(Dataset):
    """Blood cells: 364 photographs of 640 x 480 pixels, 4,888 boxes of red cells, white cells, platelets (BCCD, MIT).

    Args:
        root: folder in the Pascal VOC layout; by default ``bccd`` in the data folders.

    Raises:
        NotFoundError: the folder does not exist.
    """

    dims = 2
    channels = ("red", "green", "blue")

    def __init__(self, root: str | None = None) -> None:
        self.root = find_root("bccd", root, "ImageSets/Main")
        self.classes = {1: "RBC", 2: "WBC", 3: "Platelets"}

    def _cases(self, split: Split) -> list[Case]:
        return voc_cases(self.root, split, self.classes)
