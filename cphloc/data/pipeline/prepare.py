"""Preprocess all cases of a split before training starts, and report unusable ones."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from rich.console import Console

from cphloc.data.case import Case, checked, read_case
from cphloc.data.fingerprint import content_hash, image_hashes
from cphloc.data.pipeline.cache import PreparedCase, entry_key, evict, open_entry
from cphloc.data.pipeline.preprocess import Preprocess
from cphloc.errors import DataError, InputError, printable
from cphloc.progress import track
from cphloc.structures.annotation import IGNORE, Annotation
from cphloc.structures.fingerprint import percentiles_of
from cphloc.structures.geometry import Geometry

HELD_BYTES = 200_000_000
"""Maximum size in bytes of a split that is kept in memory, which is faster than opening files for each patch."""

_RECENT: dict[tuple[str, ...], PreparedCases] = {}
"""Cache keys of the cases -> split, for the splits last used by this process; shared by the runs of a study."""

_RECENT_SPLITS = 16
"""Maximum number of splits in `_RECENT`."""

FOREGROUND_POINTS = 2000
"""Maximum number of foreground voxels per class that are stored as candidate patch centres."""


@dataclass(frozen=True)
class PreparedCases(Sequence[PreparedCase]):
    """Sequence of the preprocessed cases of a split, opened from the cache on access; small splits are kept in memory.

    Args:
        cases: the cases.
        preprocess: preprocessing of the cases.
        classes: number of foreground classes K.
        left_out: one message for each excluded case, with the reason.
    """

    cases: tuple[Case, ...]
    preprocess: Preprocess
    classes: int
    left_out: tuple[str, ...] = ()
    _held: dict[int, PreparedCase] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index: int) -> PreparedCase:
        if index not in self._held:
            opened = self.open(self.cases[index])
            if 2 * opened.image.nbytes * len(self.cases) > HELD_BYTES:
                return opened
            self._held[index] = opened.in_memory()
        return self._held[index]

    def open(self, case: Case, verify: bool = False) -> PreparedCase:
        """Open one case, after preprocessing it where it is not in the cache.

        Args:
            case: the case.
            verify: whether to verify the checksums of the cached files.

        Raises:
            DataError: the case cannot be used.
        """
        make = partial(prepare_case, case, self.preprocess, self.classes)
        return open_entry(case, self._preprocessing, make, verify)

    def keys(self) -> tuple[str, ...]:
        """Return the names of the cache entries, which change when a file changes."""
        return tuple(entry_key(case, self._preprocessing) for case in self.cases)

    @property
    def _preprocessing(self) -> str:
        return f"{self.preprocess!r} {self.classes}"


def prepare(cases: Sequence[Case], preprocess: Preprocess, classes: int, skip_bad: bool = False) -> PreparedCases:
    """Preprocess and check every case of a split, so that file problems are found before training starts.

    Args:
        cases: the cases.
        preprocess: preprocessing of the cases.
        classes: number of foreground classes K.
        skip_bad: whether to exclude unusable cases and list them on stderr, instead of raising an error.

    Raises:
        DataError: cases are unusable and ``skip_bad`` is False (one line per case), or no case is left.
    """
    prepared = PreparedCases(tuple(cases), preprocess, classes)
    keys = prepared.keys()
    if keys in _RECENT:
        return _RECENT[keys]
    threads = min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads) as pool:
        checks = pool.map(partial(_problem, prepared), prepared.cases)
        shown = track(checks, "preprocessing cases", len(cases))
        problems = list(zip(prepared.cases, shown, strict=True))
    bad = [f"case '{case.id}': {problem}" for case, problem in problems if problem]
    if bad:
        _report(bad, len(cases), skip_bad)
        prepared = PreparedCases(
            tuple(case for case, problem in problems if not problem), preprocess, classes, tuple(bad)
        )
    if not prepared:
        msg = "the split has no usable case; check data.root and the split"
        raise DataError(msg)
    _report_kept(prepared)
    evict(keep=set(prepared.keys()))
    while len(_RECENT) >= _RECENT_SPLITS:
        del _RECENT[next(iter(_RECENT))]
    _RECENT[prepared.keys()] = prepared
    return prepared


def prepare_case(case: Case, preprocess: Preprocess, classes: int) -> PreparedCase:
    """Read a case and preprocess its image and annotation.

    Raises:
        DataError: a file cannot be read, or the annotation does not match the image or the classes.
    """
    volume, given = read_case(case, preprocess.dims)
    checked(case, given, volume.geometry.shape, classes)
    ready = preprocess(volume)
    if not np.isfinite(ready.array).all():
        msg = f"{case.images[0]}: contains NaN or infinite values after preprocessing; export it again"
        raise DataError(msg)
    annotation, kept = _prepared_annotation(given, preprocess, volume.geometry)
    foreground = _foreground(annotation, preprocess.dims)
    grids = ready.geometry, volume.geometry
    percentiles = tuple(percentiles_of(channel) for channel in volume.array)
    return PreparedCase(
        case.id, ready.array, annotation, *grids, foreground, content_hash(case), percentiles, image_hashes(case), kept
    )


def _prepared_annotation(given: Annotation, preprocess: Preprocess, geometry: Geometry) -> tuple[Annotation, int]:
    """Annotation on the preprocessed grid, and the number of objects that only one given voxel has kept in it."""
    mask, boxes, region = given.mask, given.boxes, given.region
    if region is not None:
        percent = preprocess.prepare_region(np.rint(region * 100).astype(np.uint8), geometry)
        region = percent.astype(np.float32) / 100
    moved, kept = (None, 0) if mask is None else preprocess.prepare_objects(mask, geometry)
    prepared = replace(
        given,
        mask=None if moved is None else moved.astype(np.uint8),
        boxes=None if boxes is None else preprocess.prepare_boxes(boxes, geometry).astype(np.float32),
        region=region,
        instances=None if given.instances is None else preprocess.prepare_region(given.instances, geometry),
    )
    return prepared, kept


def _foreground(annotation: Annotation, dims: int) -> np.ndarray:
    """Class number and index of candidate patch centres: mask voxels, else box centres, else region voxels."""
    rng = np.random.default_rng(0)
    rows = []
    if annotation.mask is not None:
        for value in np.unique(annotation.mask):
            if value not in (0, IGNORE) and (annotation.mask_known is None or annotation.mask_known[value - 1]):
                rows += _points(np.argwhere(annotation.mask == value), int(value), rng)
    elif annotation.boxes is not None:
        boxes, box_classes = annotation.objects
        middles = (boxes[:, :dims] + boxes[:, dims:]) / 2
        rows += [(int(c), *m) for c, m in zip(box_classes, middles.astype(int).tolist(), strict=True)]
    elif annotation.region is not None:
        rows += _points(np.argwhere(annotation.region > 0), 1, rng)
    return np.asarray(rows, np.int32).reshape(-1, 1 + dims)


def _points(voxels: np.ndarray, value: int, rng: np.random.Generator) -> list[tuple[int, ...]]:
    if len(voxels) > FOREGROUND_POINTS:
        voxels = voxels[rng.choice(len(voxels), FOREGROUND_POINTS, replace=False)]
    return [(value, *v) for v in voxels.tolist()]


def _problem(prepared: PreparedCases, case: Case) -> str | None:
    """Reason why a case cannot be used; ``None`` for a usable case."""
    try:
        prepared.open(case, verify=True)
    except (InputError, OSError, MemoryError) as error:
        return str(error)
    return None


def _report_kept(prepared: PreparedCases) -> None:
    """Print how many objects are smaller than a voxel of the preprocessed grid."""
    kept = [count for case in prepared if (count := case.kept_objects)]
    if kept:
        text = (
            f"objects that would vanish between the voxels of the resampled mask and keep one voxel each: {sum(kept)}, "
            f"in {len(kept)} of {len(prepared)} cases; a smaller data.spacing_mm (or larger data.fit) shows them whole"
        )
        Console(stderr=True, soft_wrap=True, markup=False).print(text)


def _report(bad: list[str], total: int, skip_bad: bool) -> None:
    heading = f"{len(bad)} of {total} cases cannot be used"
    if not skip_bad:
        msg = "\n".join([f"{heading}; repair them, or set data.skip_bad: true to exclude them", *bad])
        raise DataError(msg)
    Console(stderr=True, soft_wrap=True, markup=False).print(
        printable("\n".join([f"{heading} and are excluded:", *bad]))
    )
