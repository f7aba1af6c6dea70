"""On-disk cache of preprocessed cases, memory-mapped and shared by all runs and processes.

An entry is a folder named by a hash of all files that are read (path, size, times of the last change of content and of
status, which cannot be set back) and of the preprocessing, so a changed file or setting creates a new entry. Entries
are written to a temporary folder that is renamed when complete. Their checksums are verified when a run starts, and
damaged entries are recreated. The least recently used entries are removed when the total size exceeds
``CPHLOC_CACHE_GB`` (default 50).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from cphloc import paths
from cphloc.config import jsonio
from cphloc.data.case import Case
from cphloc.data.io.source_files import source_files
from cphloc.errors import InputError
from cphloc.files import atomic_folder
from cphloc.structures.annotation import Annotation
from cphloc.structures.geometry import Geometry

FORMAT = 2
"""Version of the file layout of an entry; part of its key."""
FORMAT_OF_INSTANCES = 3
"""Format of entries whose objects are told apart, which lacked that before."""


@dataclass(frozen=True)
class PreparedCase:
    """A preprocessed case; image, mask and region are memory-mapped, so only the parts that are used are read.

    Args:
        id: id of the case.
        image: ``(C, *S)`` float32.
        annotation: annotation on the grid of ``image``.
        geometry: grid of ``image``.
        source: grid of the image file, to which predictions are resampled.
        foreground: ``(n, 1 + D)`` int32: class number and index of voxels on which a patch may be centred.
        content: hash of the original files (`cphloc.data.fingerprint.content_hash`).
        percentiles: 0.5th, 50th and 99.5th percentile of each channel before preprocessing.
        images: hashes of the original images (`cphloc.data.fingerprint.image_hashes`).
        kept_objects: objects of the mask that are smaller than a voxel and were kept by giving them one.
    """

    id: str
    image: np.ndarray
    annotation: Annotation
    geometry: Geometry
    source: Geometry
    foreground: np.ndarray
    content: str
    percentiles: tuple[tuple[float, float, float], ...] = ()
    images: tuple[str, ...] = ()
    kept_objects: int = 0

    def in_memory(self) -> PreparedCase:
        """Return a copy of the case with all arrays in memory."""
        stated = {f.name: getattr(self.annotation, f.name) for f in fields(Annotation)}
        read = {name: None if array is None else np.array(array) for name, array in stated.items()}
        return replace(self, image=np.array(self.image), annotation=Annotation(**read))


def entry_key(case: Case, preprocessing: str) -> str:
    """Return the name of the cache entry of a case.

    Args:
        case: the case.
        preprocessing: complete text description of the preprocessing.
    """
    files = [_identity(file) for path in case.files for file in source_files(path)]
    images = [str(path) for path in case.images]
    told_apart = case.annotation.instances is not None or case.annotation.outlines is not None
    parts = [
        FORMAT_OF_INSTANCES if told_apart else FORMAT,
        preprocessing,
        case.id,
        repr(case.annotation),
        repr(case.spacing_mm),
        case.tile,
        images,
        files,
    ]
    if any(case.units) or any(case.given_units):
        parts.append(repr((case.units, case.given_units)))
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def open_entry(case: Case, preprocessing: str, make: Callable[[], PreparedCase], verify: bool = False) -> PreparedCase:
    """Open a preprocessed case from the cache, after creating the entry where it is missing or damaged.

    Args:
        case: the case.
        preprocessing: complete text description of the preprocessing.
        make: function that preprocesses the case.
        verify: whether to verify the checksums of all files; if False, only their sizes are checked.

    Raises:
        InputError: the entry cannot be read back after it was written.
    """
    folder = paths.cached("prepared", entry_key(case, preprocessing))
    prepared = _load(folder, verify)
    if prepared is None:
        folder = paths.writable_cache() / "prepared" / folder.name
        if folder.exists() and _load(folder, verify) is None:  # damaged, not just written by another process
            shutil.rmtree(folder, ignore_errors=True)
        _store(make(), folder)
        prepared = _load(folder, verify=False)
    if prepared is None:
        msg = f"{folder}: the preprocessed case '{case.id}' cannot be read back; check the disk or set CPHLOC_CACHE"
        raise InputError(msg)
    return prepared


def limit_bytes() -> int:
    """Return the maximum size of the cache in bytes, from the environment variable ``CPHLOC_CACHE_GB``.

    Raises:
        InputError: the variable is not a positive number.
    """
    text = os.environ.get("CPHLOC_CACHE_GB", "50")
    try:
        size = float(text)
    except ValueError:
        size = -1.0
    if not size > 0:
        msg = f"CPHLOC_CACHE_GB must be a positive number of gigabytes, got '{text}'"
        raise InputError(msg)
    return int(size * 1e9)


def evict(keep: set[str]) -> list[str]:
    """Remove the least recently used entries until the cache is not larger than `limit_bytes`.

    Args:
        keep: names of entries that must not be removed.

    Returns:
        names of the removed entries.
    """
    folders = [f for f in (paths.writable_cache() / "prepared").glob("*") if f.is_dir() and not f.name.startswith(".")]
    sizes = {f: sum(p.stat().st_size for p in f.iterdir()) for f in folders}
    excess, removed = sum(sizes.values()) - limit_bytes(), []
    for folder in sorted(folders, key=lambda f: f.stat().st_mtime):
        if excess <= 0:
            break
        if folder.name not in keep:
            shutil.rmtree(folder, ignore_errors=True)
            excess -= sizes[folder]
            removed.append(folder.name)
    return removed


def _identity(path: Path) -> list[object]:
    """Path, size, and times of the last change of content and of status of a file.

    Replacing a file by an older one of the same size, as ``cp -p`` and ``rsync -a`` do, changes the time of status.
    """
    path = path.resolve()
    try:
        stat = path.stat()
    except OSError:
        return [str(path), "missing"]
    return [str(path), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


def _store(prepared: PreparedCase, folder: Path) -> None:
    """Write an entry atomically; an entry that another process has written meanwhile is kept."""
    annotation = prepared.annotation
    arrays = {
        "image": np.ascontiguousarray(prepared.image, np.float32),
        "foreground": prepared.foreground,
        **{f.name: getattr(annotation, f.name) for f in fields(Annotation)},
    }
    facts = {
        "id": prepared.id,
        "geometry": _geometry_to_json(prepared.geometry),
        "source": _geometry_to_json(prepared.source),
        "content": prepared.content,
        "percentiles": prepared.percentiles,
        "images": prepared.images,
        "kept_objects": prepared.kept_objects,
    }
    with atomic_folder(folder, durable=False) as aside:
        checksums = {name: _save(aside / f"{name}.npy", a) for name, a in arrays.items() if a is not None}
        (aside / "case.json").write_text(jsonio.dumps(facts | {"arrays": checksums}), encoding="utf-8")


def _save(path: Path, array: np.ndarray) -> tuple[int, int]:
    """Write an array; returns the size of the file in bytes and its checksum."""
    np.save(path, array)
    return path.stat().st_size, zlib.crc32(path.read_bytes())


def _load(folder: Path, verify: bool) -> PreparedCase | None:
    """Open an entry; ``None`` if it is missing or damaged."""
    try:
        facts = json.loads((folder / "case.json").read_text())
        arrays = {
            name: _open_array(folder / f"{name}.npy", size, checksum, verify)
            for name, (size, checksum) in facts["arrays"].items()
        }
        with suppress(OSError):  # another user's entry, or a read-only cache
            os.utime(folder)
        return PreparedCase(
            facts["id"],
            arrays["image"],
            Annotation(**{f.name: arrays.get(f.name) for f in fields(Annotation)}),
            _geometry_from_json(facts["geometry"]),
            _geometry_from_json(facts["source"]),
            arrays["foreground"],
            facts["content"],
            tuple(tuple(of_channel) for of_channel in facts["percentiles"]),
            tuple(facts["images"]),
            facts["kept_objects"],
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _open_array(path: Path, size: int, checksum: int, verify: bool) -> np.ndarray:
    if path.stat().st_size != size or (verify and zlib.crc32(path.read_bytes()) != checksum):
        msg = f"{path} is damaged"
        raise ValueError(msg)
    large = path.stem in ("image", "mask", "region")
    return np.load(path, mmap_mode="r" if large else None, allow_pickle=False).view(np.ndarray)


def _geometry_to_json(geometry: Geometry) -> dict[str, object]:
    return {
        "shape": geometry.shape,
        "spacing_mm": geometry.spacing_mm,
        "origin_mm": geometry.origin_mm,
        "direction": geometry.direction.tolist(),
        "unit": geometry.unit,
    }


def _geometry_from_json(facts: dict) -> Geometry:
    return Geometry(
        tuple(facts["shape"]),
        tuple(facts["spacing_mm"]),
        tuple(facts["origin_mm"]),
        np.asarray(facts["direction"]),
        facts["unit"],
    )
