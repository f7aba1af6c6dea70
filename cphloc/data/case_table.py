"""Columns of ``cases.csv``, the table that describes a user's own data."""

from __future__ import annotations

COLUMNS = {
    "image": "file of the image, relative to the table; it may hold several channels, as a colour picture does",
    "image_<channel>": "instead of image, with several channels in files of their own: one such column per channel",
    "unit_<channel>": "unit of an image whose file states none, where it is not that of the channel, such as SUV",
    "case": "name of the case; empty: the name of the file",
    "patient": "patient, whose cases are all in one split; empty: the case",
    "split": "train, val or test; empty: chosen by a hash of the patient",
    "mask": "file with whole numbers 0 to K (or 0 and 255), or a DICOM RTSTRUCT or SEG, or .seg.nrrd",
    "instances": "file whose values number the objects, so that touching ones stay apart",
    "instance_classes": "classes of objects 1, 2, ..., such as mass;cyst; not needed with one class",
    "instances_<class>": "instead of instances: one such file per class",
    "region": "file of where the finding may be located",
    "label": "classes that are present, separated by ';', or none; empty: unknown",
    "boxes": "JSON list of [class, lo..., hi...], voxel edges in array order; [] is none; empty: unknown",
}
"""Column -> what its cells hold. Columns whose names begin with ``x-`` hold notes, which nothing reads."""

OPTIONAL = tuple(name for name in COLUMNS if "<" not in name and name != "image")
"""Columns with fixed names that a table may have besides its images."""


def explanation() -> str:
    """Explain every column, one line each, for help texts.

    >>> explanation().splitlines()[0].split()[:3]
    ['image', 'file', 'of']
    """
    width = max(map(len, COLUMNS))
    return "\n".join(f"{name:{width}}  {meaning}" for name, meaning in COLUMNS.items())


def header() -> str:
    """Return the header line of an empty table."""
    return ",".join(["image", *OPTIONAL]) + "\n"
