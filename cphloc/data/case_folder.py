"""List the cases of a folder that has no table: images with a mask each, DICOM series with contours, class folders."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from cphloc.data.dicom_cases import find_dicom_cases
from cphloc.data.io.formats import DICOM, PICTURE_SUFFIXES, image_suffix
from cphloc.data.io.notice import notice
from cphloc.errors import DataError

CaseRow = dict[str, str]
"""Cells of a case by the columns of ``cases.csv``; files relative to the folder."""

_MASK = "mask label labels seg segmentation segmentations gt groundtruth ground_truth annotation roi gtv manual contour"
_MASK_WORDS = {*_MASK.split(), *["masks", "segs", "rois", "annotations", "labelstr", "gts", "manuals", "contours"]}
_IMAGE = "image images img imgs imagestr scan scans volume volumes picture pictures photo photos data"
_IMAGE_WORDS = set(_IMAGE.split())
_SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_MASK_END = re.compile(rf"(?i)(.*?)(?:^|[ _.-])({'|'.join(_MASK.split())}|masks)([ _-]?\d{{0,2}})")
_IMAGE_END = re.compile(r"(?i)(.*?)(?:^|[ _.-])(image|img|scan|volume|0000)")
_LISTED = 5
"""Most names in a message."""


@dataclass(frozen=True)
class _File:
    """An image or mask: its path relative to the folder, ending, key that pairs it, folders in the key, and split."""

    path: PurePath
    ending: str
    key: tuple[str, ...]
    folders: tuple[str, ...]
    split: str


def find_cases(root: Path) -> list[CaseRow]:
    """List the annotated cases of a folder.

    Images and masks are paired by their names: ``images/a.png`` with ``masks/a.png``, ``a.nii.gz`` with
    ``a_mask.nii.gz``, ``a/image.nii.gz`` with ``a/mask.nii.gz``. Folders ``train``, ``val`` and ``test`` are the
    splits. Without masks, the folders that the images lie in are their labels. DICOM series are paired with the
    RTSTRUCT or SEG that refers to them.

    Args:
        root: the folder, which is searched recursively.

    Raises:
        DataError: there is no image, or no annotation for any.
    """
    found = sorted(p.relative_to(root) for p in root.rglob("*") if p.is_file())
    named = {p: image_suffix(p.name) for p in found if not any(part.startswith(".") for part in p.parts)}
    plain = {p: ending for p, ending in named.items() if ending and ending.lower() not in DICOM.read}
    others = [root / p for p in named if p not in plain]
    if not plain:
        return find_dicom_cases(root, others)
    masks = [_mask(p, ending) for p, ending in plain.items() if _is_mask(p, ending)]
    images = _one_kind(root, [_image(p, e) for p, e in plain.items() if not _is_mask(p, e)])
    if not images:
        msg = f"{root}: contains masks but no images; name the images or their folder otherwise, or add a cases.csv"
        raise DataError(msg)
    rows = _paired(root, images, masks) if masks else _labelled(images)
    if not rows:
        raise DataError(_nothing(root, images, masks))
    return rows


def _nothing(root: Path, images: Sequence[_File], masks: Sequence[_File]) -> str:
    if masks:
        return (
            f"{root}: none of the {len(masks)} masks ({masks[0].path}, ...) has the name of one of the {len(images)} "
            f"images ({images[0].path}, ...); name each mask like its image, or add a cases.csv (cphloc data template)"
        )
    return (
        f"{root}: contains {len(images)} images and no annotation; put masks of the same names into a folder 'masks', "
        "or the images into one folder per class, or add a cases.csv (cphloc data template writes one)"
    )


def _is_mask(path: PurePath, ending: str) -> bool:
    """Return True for a file in a folder of masks, called like a mask, or a Slicer segmentation."""
    if any(part.lower() in _MASK_WORDS for part in path.parts[:-1]):
        return True
    stem = path.name[: len(path.name) - len(ending)]
    return path.name.lower().endswith(".seg.nrrd") or _MASK_END.fullmatch(stem) is not None


def _mask(path: PurePath, ending: str) -> _File:
    stem = re.sub(r"(?i)\.seg$", "", path.name[: len(path.name) - len(ending)])
    return _file(path, ending, _MASK_END.fullmatch(stem), stem)


def _image(path: PurePath, ending: str) -> _File:
    stem = path.name[: len(path.name) - len(ending)]
    return _file(path, ending, _IMAGE_END.fullmatch(stem), stem)


def _file(path: PurePath, ending: str, found: re.Match[str] | None, stem: str) -> _File:
    """Key of a file: its folders without those that name what they hold, and its name without such a word."""
    split = next((_SPLIT_WORDS[p.lower()] for p in path.parts[:-1] if p.lower() in _SPLIT_WORDS), "")
    role = _MASK_WORDS | _IMAGE_WORDS | set(_SPLIT_WORDS)
    folders = tuple(part for part in path.parts[:-1] if part.lower() not in role)
    name = (found[1] if found else stem).rstrip(" _.-").lower()
    key = (split, *folders, name) if name else (split, *folders)
    return _File(path, ending, key, folders, split)


def _one_kind(root: Path, images: list[_File]) -> list[_File]:
    """Images of one kind, pictures or volumes, and one file per key; what is left out is said."""
    pictures = {f.ending.lower() in PICTURE_SUFFIXES for f in images}
    if len(pictures) > 1:
        count = Counter(f.ending.lower() in PICTURE_SUFFIXES for f in images)
        kept = count[True] > count[False]
        images = _without(root, images, [f for f in images if (f.ending.lower() in PICTURE_SUFFIXES) != kept])
    usual = Counter(f.ending.lower() for f in images)
    first: dict[tuple[str, ...], _File] = {}
    for file in sorted(images, key=lambda f: -usual[f.ending.lower()]):
        first.setdefault(file.key, file)
    return _without(root, images, [f for f in images if first[f.key] is not f])


def _without(root: Path, files: list[_File], dropped: list[_File]) -> list[_File]:
    if dropped:
        names = ", ".join(str(f.path) for f in dropped[:_LISTED]) + (", ..." if len(dropped) > _LISTED else "")
        notice(
            root, f"{len(dropped)} images with another ending or role are left out ({names}); a cases.csv can choose"
        )
    return [f for f in files if f not in dropped]


def _paired(root: Path, images: Sequence[_File], masks: Sequence[_File]) -> list[CaseRow]:
    """A row for each image with its mask; images without one are left out, which is said."""
    by_key: dict[tuple[str, ...], list[_File]] = defaultdict(list)
    for mask in masks:
        by_key[mask.key].append(mask)
    several = [str(image.path) for image in images if len(by_key[image.key]) > 1]
    lone = [str(image.path) for image in images if not by_key[image.key]]
    rows = [_row(image, by_key[image.key][0].path) for image in images if len(by_key[image.key]) == 1]
    if not rows:
        return _channels(images, masks)
    for names, what in ((several, "several masks, which should be united"), (lone, "no mask")):
        if names:
            listed = ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")
            notice(root, f"{len(names)} images have {what}, and are left out ({listed})")
    labels = _class_folders(images)
    return [{**row, **({"label": labels[row["image"]]} if labels else {})} for row in rows]


def _channels(images: Sequence[_File], masks: Sequence[_File]) -> list[CaseRow]:
    """Rows of folders that each hold one mask and images of equal names, which are the channels; else none."""
    by_folder: dict[PurePath, list[_File]] = defaultdict(list)
    for image in images:
        by_folder[image.path.parent].append(image)
    mask_of = {mask.path.parent: mask for mask in masks}
    named = {
        folder: {_channel(f, folder): f for f in group} for folder, group in by_folder.items() if folder in mask_of
    }
    names = {tuple(sorted(group)) for group in named.values()}
    if len(names) != 1 or len(mask_of) < len(masks):
        return []
    return [
        {
            "case": "_".join(folder.parts),
            "split": mask_of[folder].split,
            **{f"image_{name}" if len(group) > 1 else "image": group[name].path.as_posix() for name in sorted(group)},
            "mask": mask_of[folder].path.as_posix(),
        }
        for folder, group in named.items()
    ]


def _channel(file: _File, folder: PurePath) -> str:
    """Name of a channel: the file's without ending and without the name of its folder."""
    stem = file.path.name[: len(file.path.name) - len(file.ending)]
    return stem.removeprefix(folder.name).strip(" _.-").lower() or "image"


def _labelled(images: Sequence[_File]) -> list[CaseRow]:
    labels = _class_folders(images)
    return [{**_row(image, None), "label": labels[image.path.as_posix()]} for image in images] if labels else []


def _class_folders(images: Sequence[_File]) -> Mapping[str, str]:
    """Image -> the one folder it lies in, where there are at least two and each holds several images; else empty."""
    count = Counter(image.folders for image in images)
    if len(count) < 2 or any(len(folders) != 1 for folders in count) or min(count.values()) < 3:
        return {}
    return {image.path.as_posix(): image.folders[0] for image in images}


def _row(image: _File, mask: PurePath | None) -> CaseRow:
    name = "_".join((*image.folders, image.path.name[: len(image.path.name) - len(image.ending)]))
    if image.folders and image.key[-1] == image.folders[-1]:
        name = "_".join(image.folders)
    return {
        "image": image.path.as_posix(),
        "case": name,
        "split": image.split,
        **({} if mask is None else {"mask": mask.as_posix()}),
    }
