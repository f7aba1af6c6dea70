"""Breast ultrasound: a class for every picture, a mask for some."""

from __future__ import annotations

from cphloc.data.case import Case, Marks, one_hot
from cphloc.data.dataset import Dataset, Split, find_root, read_table


class Busi(Dataset):
    """766 ultrasound pictures of 256 x 256 pixels: normal, benign, malignant (Al-Dhabyani 2020, CC BY 4.0).

    135 of them also have a lesion mask (empty for normal), so it climbs the supervision ladder. Near-duplicates form
    clusters that never fall into two splits; a cluster serves as the patient, since the data set names none.

    Args:
        root: folder with ``cases.csv``, ``images/`` and ``masks/``; by default ``busi`` in the data folders.

    Raises:
        NotFoundError: the folder does not exist.
    """

    dims = 2
    channels = ("us",)

    def __init__(self, root: str | None = None) -> None:
        self.root = find_root("busi", root, "cases.csv")
        self.classes = {1: "benign", 2: "malignant"}

    def _cases(self, split: Split) -> list[Case]:
        needed = ("case", "class", "has_mask", "duplicate_cluster", "split")
        rows = read_table(self.root / "cases.csv", needed)
        return [self._case(row) for row in rows if row["split"] == split]

    def _case(self, row: dict[str, str]) -> Case:
        name = row["case"]
        present = tuple(number for number, label in self.classes.items() if label == row["class"])
        marks = Marks(
            mask=self.root / "masks" / f"{name}.png" if row["has_mask"] == "1" else None,
            mask_classes={0: 0, 1: present[0] if present else 0},
            label=one_hot(present, len(self.classes)),
        )
        image = self.root / "images" / f"{name}.png"
        return Case(name, f"cluster_{row['duplicate_cluster']}", (image,), marks)
