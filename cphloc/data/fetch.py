"""Download public data sets: interrupted downloads resume, and contents are checked before they are installed."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from cphloc import paths
from cphloc.data.dataset import Dataset
from cphloc.data.fingerprint import content_hash, fingerprint
from cphloc.download import download
from cphloc.errors import CphlocError, InputError
from cphloc.registry import catalogue
from cphloc.registry.contract import construct
from cphloc.structures.split import SPLITS

_SHIPPED_SPLITS = Path(__file__).parent / "splits"


@dataclass(frozen=True)
class Source:
    """Where a data set is published, and how its contents are checked.

    Args:
        url: address of a ``.tar``, ``.tar.gz`` or ``.zip`` archive.
        folders: folder in the archive -> folder of the data set.
        checksum: checksum of the archive, ``md5:<hexadecimal>``, where its publisher keeps it unchanged.
        fingerprint: `cphloc.data.fingerprint.fingerprint` of all cases, where the archive is packed anew for each
            download.
    """

    url: str
    folders: Mapping[str, str]
    checksum: str | None = None
    fingerprint: str | None = None


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
}
"""Data sets that can be fetched; the licence of each is on its card."""


def fetch(name: str) -> Path:
    """Download a data set into the first data folder, unless it is there already.

    The next call continues an interrupted download.

    Args:
        name: name of the data set's card.

    Returns:
        the folder of the data set.

    Raises:
        NotFoundError: there is no such data set.
        InputError: it is not published where a program may fetch it; the message says where people get it.
        CphlocError: offline, not reachable, or the contents are not those expected.
    """
    card = catalogue.card("dataset", name)
    target = paths.data_folders()[0] / name
    if target.exists():
        return target
    if name not in SOURCES:
        msg = (
            f"'{name}' cannot be fetched by a program; get it from {card.url} (licence: {card.licence}) "
            f"and put it into '{target}' as `cphloc show {name}` describes"
        )
        raise InputError(msg)
    if paths.offline():
        msg = f"CPHLOC_OFFLINE forbids downloading '{name}'; copy it to '{target}'"
        raise CphlocError(msg)
    _install(name, SOURCES[name], _archive(name, SOURCES[name]), target)
    return target


def _install(name: str, source: Source, archive: Path, target: Path) -> None:
    """Unpack into a temporary folder, check the contents, and rename the folder to ``target``."""
    card = catalogue.card("dataset", name)
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=target.parent))
    try:
        _unpack(archive, source.folders, aside)
        archive.unlink()
        if (splits := _SHIPPED_SPLITS / f"{name}.csv").exists():
            shutil.copy(splits, aside / "cases.csv")
        (aside / "SOURCE").write_text(f"{source.url}\nlicence: {card.licence}\ncite: {card.citation}\n")
        _check_content(name, source, aside)
        aside.rename(target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _archive(name: str, source: Source) -> Path:
    """Download the archive into the cache, or find it there."""
    path = paths.cache() / "downloads" / f"{name}-{hashlib.sha256(source.url.encode()).hexdigest()[:12]}"
    return download([source.url], path, name, source.checksum)


def _unpack(archive: Path, folders: Mapping[str, str], target: Path) -> None:
    """Extract the files in ``folders`` and their sub-folders; hidden files and all others are left out."""
    try:
        for name, stream in _members(archive):
            path = PurePosixPath(name)
            for inside, outside in folders.items():
                if path.is_relative_to(inside) and not path.name.startswith(".") and ".." not in path.parts:
                    place = target / outside / path.relative_to(inside)
                    place.parent.mkdir(parents=True, exist_ok=True)
                    with place.open("wb") as file:
                        shutil.copyfileobj(stream, file)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        archive.unlink()
        msg = f"{archive}: is a damaged archive ({error}); run the command again"
        raise CphlocError(msg) from error


def _members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Names and contents of the regular files in an archive."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as file:
            for info in file.infolist():
                if not info.is_dir():
                    yield info.filename, file.open(info)
    else:
        with tarfile.open(archive) as file:
            for member in file:
                if (content := file.extractfile(member)) is not None and member.isfile():
                    yield member.name.removeprefix("./"), content


def _check_content(name: str, source: Source, folder: Path) -> None:
    dataset: Dataset = construct("dataset", name, {"root": str(folder)})
    cases = [case for split in SPLITS for case in dataset.cases(split)]
    found = fingerprint((case.id, content_hash(case)) for case in cases)
    if source.fingerprint is not None and found != source.fingerprint:
        msg = f"{source.url}: holds other cases (fingerprint {found[:12]}, expected {source.fingerprint[:12]})"
        raise CphlocError(msg)
