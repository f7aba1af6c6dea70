"""Where the public data sets come from, and how what is downloaded is verified."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """Download location of a data set, and the checksum or fingerprint to verify it with.

    Args:
        url: URL of a ``.tar``, ``.tar.gz`` or ``.zip`` archive; of what no program can download, the page of it.
        folders: folder in the archive -> folder in the data set to extract it to, or, where it is built, for the
            builder. An empty name stands for the whole archive.
        checksum: checksum of the archive, ``md5:<hexadecimal>``; ``None`` if its bytes vary between downloads.
        fingerprint: `cphloc.data.fingerprint.fingerprint` of all cases, for archives without a fixed checksum; of a
            data set that is built, what the builder returns.
        builder: module of `cphloc.data.rebuild` whose ``build`` makes the data set from the extracted files; by default
            they are the data set.
        by_hand: what to download by hand, where no program can; the data set is built from it with ``--from``.
        left_out: endings of files that are not extracted.
        most_bytes: largest size of the archive to accept.
    """

    url: str
    folders: Mapping[str, str]
    checksum: str | None = None
    fingerprint: str | None = None
    builder: str | None = None
    by_hand: str = ""
    left_out: tuple[str, ...] = ()
    most_bytes: int = 100_000_000


_KBP = "ce625e62f3b04203f22bd9d1634f3e8fb0245e46"

SOURCES: dict[str, Source] = {
    "hippocampus": Source(
        "https://msd-for-monai.s3-us-west-2.amazonaws.com/Task04_Hippocampus.tar",
        {"Task04_Hippocampus/imagesTr": "images", "Task04_Hippocampus/labelsTr": "labels"},
        checksum="md5:9d24dba78a72977dbd1d2e110310f31b",
    ),
    "bccd": Source(
        "https://codeload.github.com/Shenggan/BCCD_Dataset/zip/d272fb14cdff6e473fafeeeba32aba5f560e9e43",
        {
            f"BCCD_Dataset-d272fb14cdff6e473fafeeeba32aba5f560e9e43/BCCD/{folder}": folder
            for folder in ("Annotations", "ImageSets", "JPEGImages")
        },
        fingerprint="9307d3f022a24df742c2da271b5017fa09ff8b6946b97e6d445ffddace9fd468",
    ),
    "openkbp": Source(
        f"https://codeload.github.com/ababier/open-kbp/zip/{_KBP}",
        {f"open-kbp-{_KBP}/provided-data": ""},
        fingerprint="20ae77aed42476cccfdd5c5d96c4ea3471b57440c5398e9f79d23209d274196f",
        builder="openkbp",
        most_bytes=2_000_000_000,
        left_out=("dose.csv", "possible_dose_mask.csv", "PTV56.csv", "PTV63.csv", "PTV70.csv"),
    ),
    "brain_t1c": Source(
        "https://doi.org/10.6084/m9.figshare.1512427",
        {"": ""},
        builder="brain_t1c",
        by_hand="the four archives of 1.mat to 3064.mat, unpacked into one folder",
    ),
    "busi": Source(
        "https://doi.org/10.1016/j.dib.2019.104863",
        {"": ""},
        builder="busi",
        by_hand="Dataset_BUSI_with_GT, as a folder or a .zip archive",
    ),
}
"""Name -> source of the data sets that can be downloaded or built; their licences are on their cards."""
