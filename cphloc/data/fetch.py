"""Download public data sets, with resumable downloads and verification before installation."""

from __future__ import annotations

import gzip
import hashlib
import importlib
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO

from cphloc import paths
from cphloc.data.dataset import Dataset
from cphloc.data.fingerprint import content_hash, fingerprint
from cphloc.data.sources import SOURCES, Source
from cphloc.download import download
from cphloc.errors import CphlocError, InputError, NotFoundError, one_line
from cphloc.files import atomic_folder
from cphloc.paths import portable
from cphloc.registry import catalogue
from cphloc.registry.contract import construct
from cphloc.structures.split import SPLITS

MAX_UNPACKED_BYTES = 1 << 30
"""Size of the files in an archive from which those that are more than `MAX_UNPACKED_RATIO` times larger are refused."""
MAX_UNPACKED_RATIO = 100
MAX_MEMBERS, MAX_HEADER_BYTES = 200_000, 1 << 24
"""Most members of an archive, and most bytes of a header of one."""
_DAMAGED = (
    *(tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, gzip.BadGzipFile),
    *(
        RuntimeError,
        NotImplementedError,
        ValueError,
        NotADirectoryError,
        IsADirectoryError,
        FileExistsError,
    ),  # an encrypted or unknown member of a zip file, a NUL in a name
)

_SHIPPED_SPLITS = Path(__file__).parent / "splits"


class WrongContentError(CphlocError):
    """An archive is damaged or holds other cases than expected."""


def fetch(name: str, copy: str | Path | None = None) -> Path:
    """Download a data set to the first data folder, unless it exists there already.

    An interrupted download is resumed by the next call.

    Args:
        name: name of the data set's card.
        copy: what was downloaded by hand: the archive of the source, or the folder that it was unpacked to.

    Returns:
        the folder of the data set.

    Raises:
        NotFoundError: there is no data set with that name, or no such copy.
        InputError: the data set cannot be downloaded automatically; the message contains its URL and licence.
        CphlocError: the computer is offline, the server is not reachable, or the contents differ from those expected.
    """
    card = catalogue.card("dataset", name)
    folders = [folder / name for folder in paths.data_folders()]
    target = next((folder for folder in folders if folder.exists()), None)
    if target is not None:
        return target
    target = next((folder for folder in folders if paths.is_writable(folder)), folders[-1])
    source = SOURCES.get(name)
    if source is None or (source.by_hand and copy is None):
        instead = f"put it into '{target}' as `cphloc show {name}` describes"
        if source is not None:
            instead = f"build it from {source.by_hand}: cphloc data fetch {name} --from FOLDER_OR_ARCHIVE"
        msg = f"'{name}' cannot be fetched by a program; get it from {card.url} (licence: {card.licence}) and {instead}"
        raise InputError(msg)
    if copy is not None:
        _install(name, source, _existing(copy), target)
        return target
    if paths.offline():
        msg = f"CPHLOC_OFFLINE forbids downloading '{name}'; copy it to '{target}'"
        raise CphlocError(msg)
    archive = _archive(name, source)
    try:
        _install(name, source, archive, target)
    except WrongContentError:
        archive.unlink()  # else the next call would unpack it again
        raise
    archive.unlink()
    return target


def _existing(copy: str | Path) -> Path:
    path = Path(copy).expanduser()
    if not path.exists():
        msg = f"{path}: no such folder or archive; give what you downloaded with --from"
        raise NotFoundError(msg)
    return path


def _install(name: str, source: Source, given: Path, target: Path) -> None:
    """Unpack to a temporary folder, build the data set, verify it, and rename the folder to ``target``.

    Args:
        name: of the data set.
        source: where it comes from.
        given: its archive, or a folder that the archive was unpacked to.
        target: folder of the data set.
    """
    card = catalogue.card("dataset", name)
    with atomic_folder(target) as aside:
        if (splits := _SHIPPED_SPLITS / f"{name}.csv").exists():
            shutil.copy(splits, aside / "cases.csv")
        about = f"{source.url}\nlicence: {card.licence}\ncite: {card.citation}\n"
        (aside / "SOURCE").write_text(about, encoding="utf-8")
        if source.builder is None:
            _extract(given, source, aside)
            _check_content(name, source, aside)
            return
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".unpacked-") as unpacked:
            _extract(given, source, Path(unpacked))
            built = importlib.import_module(f"cphloc.data.rebuild.{source.builder}").build(Path(unpacked), aside)
        if source.fingerprint is not None and built != source.fingerprint:
            raise _other_content(source, built)


def _extract(given: Path, source: Source, target: Path) -> None:
    """Extract an archive, or link to the files of a folder that it was unpacked to."""
    if not given.is_dir():
        unpack(given, source.folders, target, source.left_out)
        return
    for inside, outside in source.folders.items():
        held = next((folder for folder in _ends_of(given, inside) if folder.is_dir()), None)
        if held is None:
            msg = f"{given}: has no folder '{inside}'; give the folder that the archive of {source.url} is unpacked to"
            raise NotFoundError(msg)
        kept = shutil.ignore_patterns(".*", *(f"*{ending}" for ending in source.left_out))
        shutil.copytree(held, target / outside, ignore=kept, dirs_exist_ok=True)


def _ends_of(given: Path, inside: str) -> Iterator[Path]:
    """Yield where the folder ``inside`` of an archive may be if ``given`` is the whole, or a folder inside."""
    parts = PurePosixPath(inside).parts
    yield from (given.joinpath(*parts[start:]) for start in range(len(parts) + 1))


def _archive(name: str, source: Source) -> Path:
    """Download the archive to the cache, unless it is there already; return its path."""
    path = paths.cached("downloads", f"{name}-{hashlib.sha256(source.url.encode()).hexdigest()[:12]}")
    return download([source.url], path, name, source.checksum, most_bytes=source.most_bytes)


def unpack(archive: Path, folders: Mapping[str, str], target: Path, left_out: tuple[str, ...] = ()) -> None:
    """Extract the files in ``folders`` and their subfolders, without hidden files and links.

    Args:
        archive: a ``.tar``, ``.tar.gz`` or ``.zip`` file.
        folders: folder in the archive -> folder in ``target``.
        target: folder to write to; nothing is written outside it.
        left_out: endings of files that are not extracted.

    Raises:
        CphlocError: the archive is damaged, or expands beyond all proportion.
    """
    try:
        for name, stream in _members(archive):
            path = PurePosixPath(name)
            for inside, outside in folders.items():
                if path.name.endswith(left_out or "/"):
                    continue
                if path.is_relative_to(inside) and not path.name.startswith(".") and ".." not in path.parts:
                    _check_names(path.relative_to(inside))
                    place = target / outside / path.relative_to(inside)
                    place.parent.mkdir(parents=True, exist_ok=True)
                    with place.open("wb") as file:
                        shutil.copyfileobj(stream, file)
    except _DAMAGED as error:
        msg = f"{archive}: is a damaged archive ({error}); run the command again"
        raise WrongContentError(msg) from error
    except OSError as error:
        msg = f"{archive}: cannot be unpacked to {target} ({error.strerror or error}); check the space on the disk"
        raise CphlocError(msg) from error


def _check_names(path: PurePosixPath) -> None:
    """Raise ValueError for a name that Windows would read as a path, a drive or a device."""
    if odd := next((part for part in path.parts if portable(part) != part), None):
        msg = f"'{one_line(odd)}' is a file name on some systems only"
        raise ValueError(msg)


def _members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Iterate over the names and contents of the regular files in an archive; links are left out.

    Raises:
        CphlocError: the files are larger than the archive beyond all proportion.
    """
    most = max(MAX_UNPACKED_BYTES, MAX_UNPACKED_RATIO * archive.stat().st_size)
    total = number = 0
    for name, size, content in _tar_members(archive) if not zipfile.is_zipfile(archive) else _zip_members(archive):
        total, number = total + size, number + 1  # no more than this is read
        if number > MAX_MEMBERS:
            msg = f"{archive}: has more than {MAX_MEMBERS:,} members; remove it, and look at where it comes from"
            raise CphlocError(msg)
        if total > most:
            msg = f"{archive}: would expand to more than {most:,} bytes; remove it, and look at where it comes from"
            raise CphlocError(msg)
        if content is not None:
            yield name, content


def _zip_members(archive: Path) -> Iterator[tuple[str, int, IO[bytes] | None]]:
    with zipfile.ZipFile(archive) as file:
        for info in file.infolist():
            is_file = info.filename and not info.is_dir()  # is_dir fails for an empty name
            yield info.filename, info.file_size, file.open(info) if is_file else None


def _tar_members(archive: Path) -> Iterator[tuple[str, int, IO[bytes] | None]]:
    with archive.open("rb") as start:
        packed = start.read(2) == b"\x1f\x8b"  # xz and lzma, whose headers can demand any memory, are not tried
    with (_Gzip if packed else open)(archive, "rb") as stream, tarfile.open(fileobj=stream, mode="r:") as file:
        for member in file:
            content = file.extractfile(member) if member.isfile() else None
            yield member.name.removeprefix("./"), member.size, content


class _Gzip(gzip.GzipFile):
    """A gzipped file of which nobody reads much at once, as tarfile would do for long headers."""

    def read(self, size: int | None = -1) -> bytes:
        """Read bytes."""
        if size is None or not 0 <= size <= MAX_HEADER_BYTES:
            msg = f"a header claims {size:,} bytes"
            raise ValueError(msg)
        return super().read(size)


def _check_content(name: str, source: Source, folder: Path) -> None:
    dataset: Dataset = construct("dataset", name, {"root": str(folder)})
    cases = [case for split in SPLITS for case in dataset.cases(split)]
    found = fingerprint((case.id, content_hash(case)) for case in cases)
    if source.fingerprint is not None and found != source.fingerprint:
        raise _other_content(source, found)


def _other_content(source: Source, found: str) -> WrongContentError:
    expected = (source.fingerprint or "")[:12]
    return WrongContentError(f"{source.url}: contains other cases (fingerprint {found[:12]}, expected {expected})")
