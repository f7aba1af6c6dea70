"""Soft-tissue sarcoma in CT and FDG-PET."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cphloc.data.case import AnnotationSource, Case
from cphloc.data.dataset import Dataset, choose_channels, find_root, held_out
from cphloc.data.io.table import read_table
from cphloc.structures.split import Split

FILES = {"ct": "ct", "pet": "suv100"}
"""Channel -> ending of its file."""


class StsPetct(Dataset):
    """Sarcomas of 39 patients: CT, PET resampled to the CT, and a tumour mask by experts (Vallieres 2015, CC BY 3.0).

    Volumes are about 63 x 94 x 94 voxels of 3.27 x 1.95 x 1.95 mm, cropped 5 cm around the tumour: the position
    alone reveals it (a mean shape scores Dice 0.64), so train on patches at random offsets. The data set's 31 training
    patients are divided into train and val by a hash of the patient; its 8 test patients stay.

    Args:
        root: folder with ``cases.csv`` and the volumes; by default ``sts_petct`` in the data folders.
        channels: ``ct`` (Hounsfield units), ``pet`` (SUV x 100), or by default both.

    Raises:
        NotFoundError: the folder does not exist.
        InputError: an unknown channel.
    """

    dims = 3

    def __init__(self, root: str | None = None, channels: Sequence[str] | None = None) -> None:
        self.root = find_root("sts_petct", root, "cases.csv")
        self.channels = choose_channels(channels, tuple(FILES))
        self.classes = {1: "tumour"}

    def _cases(self, split: Split) -> list[Case]:
        rows = read_table(self.root / "cases.csv", needed=("case", "split"))
        return [self._case(row["case"]) for row in rows if _split_of(row) == split]

    def _case(self, name: str) -> Case:
        images = tuple(self.root / f"{name}_{FILES[channel]}.nii.gz" for channel in self.channels)
        return Case(
            name, patient=name, images=images, annotation=AnnotationSource(mask=self.root / f"{name}_gtv.nii.gz")
        )


def _split_of(row: Mapping[str, str]) -> str:
    if row["split"] == "train" and held_out(row["case"], 0.2):
        return "val"
    return row["split"]
