"""Find a trained model of nnU-Net in a results folder, an exported zip or TotalSegmentator's layout of folders."""

from __future__ import annotations

import re
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from cphloc.config.json_file import read_json
from cphloc.errors import DataError, InputError, NotFoundError

CHECKPOINT = "checkpoint_final.pth"
MOST_BYTES = 16 << 30
"""Largest sum of the files that are taken from a zip."""

_WANTED = re.compile(r"(plans|dataset)\.json|fold_(\d+|all)/checkpoint_final\.pth")


def model_folder(source: Path, scratch: Path) -> Path:
    """Return the folder of one trained configuration, which holds plans, data set and folds.

    Args:
        source: that folder, one above it, or a zip of ``nnUNetv2_export_model_to_zip``.
        scratch: where a zip is extracted.

    Raises:
        NotFoundError: there is none.
        InputError: there are several.
        DataError: the zip is damaged or too large.
    """
    if source.is_file():
        extract(source, scratch)
        return _only(scratch, source)
    if not source.is_dir():
        msg = f"{source}: no such folder or zip; give the folder that holds plans.json, dataset.json and fold_0"
        raise NotFoundError(msg)
    return source if (source / "plans.json").is_file() else _only(source, source)


def _only(folder: Path, source: Path) -> Path:
    found = sorted(path.parent for path in folder.rglob("plans.json") if (path.parent / "dataset.json").is_file())
    if not found:
        msg = f"{source}: holds no plans.json beside a dataset.json; give a folder of nnUNet_results or an exported zip"
        raise NotFoundError(msg)
    if len(found) > 1:
        names = ", ".join(str(path.relative_to(folder)) for path in found[:6])
        msg = f"{source}: holds {len(found)} trained configurations ({names}); give the folder of one of them"
        raise InputError(msg)
    return found[0]


def extract(source: Path, scratch: Path) -> None:
    """Extract plans, data sets and checkpoints from an exported zip; other members are left out.

    Raises:
        DataError: it is no zip, or too large.
    """
    try:
        with zipfile.ZipFile(source) as archive:
            for member in archive.infolist():
                _check_inside(member.filename)
            wanted = [member for member in archive.infolist() if _is_wanted(member.filename)]
            if sum(member.file_size for member in wanted) > MOST_BYTES:
                msg = f"its models have more than {MOST_BYTES:,} bytes"
                raise ValueError(msg)
            for member in wanted:
                target = scratch.joinpath(*PurePosixPath(member.filename).parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as stream, target.open("wb") as file:
                    shutil.copyfileobj(stream, file)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        msg = f"{source}: cannot be read as a zip of nnU-Net ({error}); export or download it again"
        raise DataError(msg) from None


def _check_inside(name: str) -> None:
    """Raise ValueError for a member that would be written outside the folder."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if name.startswith(("/", "\\")) or ".." in parts or any(":" in part for part in parts[:1]):
        msg = f"its member '{name}' would be written outside the folder"
        raise ValueError(msg)


def _is_wanted(name: str) -> bool:
    """Return whether a member is a file of a model."""
    parts = PurePosixPath(name).parts
    return any(_WANTED.fullmatch("/".join(parts[-count:])) for count in (1, 2))


def checkpoints(folder: Path, folds: Sequence[str] | None = None) -> dict[str, Path]:
    """Return the final checkpoint of each fold by its name, such as ``0`` or ``all``.

    As nnU-Net does, ``fold_all`` is left out where folds are not named and numbered ones exist.

    Args:
        folder: from `model_folder`.
        folds: the folds to take; ``None`` for all.

    Raises:
        NotFoundError: a fold has no final checkpoint.
        DataError: a file is a link to one outside the folder.
    """
    found = {path.parent.name.removeprefix("fold_"): path for path in sorted(folder.glob(f"fold_*/{CHECKPOINT}"))}
    for path in (folder / "plans.json", folder / "dataset.json", *found.values()):
        if not path.resolve().is_relative_to(folder.resolve()):
            msg = f"{path}: is a link to {path.resolve()}, outside the folder; copy that file here if it is meant"
            raise DataError(msg)
    if folds is None:
        numbered = {name: path for name, path in found.items() if name != "all"}
        found = numbered or found
    elif lacking := [name for name in folds if name not in found]:
        msg = f"{folder}: fold {lacking[0]} has no {CHECKPOINT}; there are: {', '.join(found) or 'none'}"
        raise NotFoundError(msg)
    else:
        found = {name: found[name] for name in folds}
    if not found:
        msg = f"{folder}: no fold has a {CHECKPOINT}; finish the training, or copy the folds too"
        raise NotFoundError(msg)
    return found


def unfinished(folder: Path) -> list[str]:
    """Return the folds without a final checkpoint, which `checkpoints` leaves out where folds are not named."""
    folds = sorted(path for path in folder.glob("fold_*") if path.is_dir())
    return [path.name.removeprefix("fold_") for path in folds if not (path / CHECKPOINT).is_file()]


def mapping_of(path: Path) -> dict:
    """Read a JSON file that holds a mapping.

    Raises:
        DataError: it does not.
    """
    found = read_json(path)
    if not isinstance(found, dict):
        msg = f"{path}: does not hold a mapping; copy it again"
        raise DataError(msg)
    return found
