"""Breast ultrasound: a class for every picture, a mask for some."""

from __future__ import annotations

from cphloc.data.case import AnnotationSource, Case, one_hot
from cphloc.data.dataset import Dataset, Split, find_root, read_table
from cphloc.errors import InputError

KINDS = ("benign", "malignant")


class Busi(Dataset):
    """766 ultrasound pictures of 256 x 256 pixels: normal, benign, malignant (Al-Dhabyani 2020, CC BY 4.0).

    135 of them also have a lesion mask (empty for normal), so it climbs the supervision ladder. Near-duplicates form
    clusters that never fall into two splits; a cluster serves as the patient, since the data set names none.

    Args:
        root: folder with ``cases.csv``, ``images/`` and ``masks/``; by default ``busi`` in the data folders.
        classes: ``{1: benign, 2: malignant}``, the default, or one class, such as ``{1: lesion}``, for both kinds.

    Raises:
        NotFoundError: the folder does not exist.
        InputError: ``classes`` is neither.
    """

    dims = 2
    channels = ("us",)

    def __init__(self, root: str | None = None, classes: dict[int, str] | None = None) -> None:
        self.classes = classes or dict(enumerate(KINDS, start=1))
        if tuple(self.classes.values()) != KINDS and len(self.classes) != 1:
            msg = f"busi has no classes {', '.join(self.classes.values())}; take benign and malignant, or one for both"
            raise InputError(msg)
        self.root = find_root("busi", root, "cases.csv")

    def _cases(self, split: Split) -> list[Case]:
        needed = ("case", "class", "has_mask", "duplicate_cluster", "split")
        rows = read_table(self.root / "cases.csv", needed)
        return [self._case(row) for row in rows if row["split"] == split]

    def _case(self, row: dict[str, str]) -> Case:
        name = row["case"]
        kind = KINDS.index(row["class"]) + 1 if row["class"] in KINDS else 0
        number = min(kind, len(self.classes))
        annotation = AnnotationSource(
            mask=self.root / "masks" / f"{name}.png" if row["has_mask"] == "1" else None,
            mask_classes={0: 0, 1: number},
            label=one_hot((number,) if number else (), len(self.classes)),
        )
        image = self.root / "images" / f"{name}.png"
        return Case(name, f"cluster_{row['duplicate_cluster']}", (image,), annotation)
