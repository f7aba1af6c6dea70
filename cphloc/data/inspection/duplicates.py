"""Find images that are in a data set twice, and patients whose cases are in two splits."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from cphloc.data.inspection.examine import Examined, Image
from cphloc.data.inspection.findings import Finding

ALIKE = 0.7
"""Correlation of the details of two images from which on they are near-duplicates.

Of different patients it is at most .35 (hippocampus), .55 (brain_t1c) and .65 (openkbp); pairs of busi and bccd above
.7 are one scan twice, as one sees.
"""
_BLOCK = 512
"""Images that are compared with as many others at once."""


@dataclass(frozen=True)
class Pair:
    """Two cases with almost the same image.

    Args:
        first: one of them.
        second: the other.
        how: ``the same image``, ``almost the same image`` and so on.
    """

    first: Examined
    second: Examined
    how: str


def repeated(cases: Sequence[Examined]) -> Iterator[tuple[Examined, Finding]]:
    """Yield cases that are repeated, and cases of patients that are in two splits, each with the reason.

    Almost equal images of one patient in one split, such as adjacent slices, are no finding; equal ones are.

    Args:
        cases: all cases; of those that could not be read only the names are compared.
    """
    yield from _named_twice(cases)
    yield from _patients(cases)
    for pair in near_duplicates(cases):
        a, b = pair.first, pair.second
        across = a.split != b.split
        if not across and a.case.patient == b.case.patient and not pair.how.startswith("the same"):
            continue
        for one, other in ((a, b), (b, a)):
            where = f", which is in {other.split}" if across else ""
            marked = _annotated_otherwise(one, other)
            kind = "duplicate across splits" if across else "duplicate"
            yield one, Finding(kind, f"{pair.how} as {other.case.id}{where}{marked}", (other.case.id,))


def near_duplicates(cases: Sequence[Examined], alike: float = ALIKE) -> list[Pair]:
    """Return all pairs of almost equal images, also mirrored or inverted ones.

    The images are compared by `cphloc.data.inspection.signature.Signature`, ``n`` images in ``n`` times ``n``
    products of small vectors, block by block.

    Args:
        cases: the cases.
        alike: least correlation of the details.
    """
    known = [(case, case.image) for case in cases if case.image is not None]
    groups: dict[int, list[tuple[Examined, Image]]] = defaultdict(list)
    for case, image in known:
        groups[len(image.shape)].append((case, image))
    return [pair for group in groups.values() for pair in _pairs(group, alike)]


def _pairs(known: Sequence[tuple[Examined, Image]], alike: float) -> Iterator[Pair]:
    for start in range(0, len(known), _BLOCK):
        rows = _details(known[start : start + _BLOCK])
        flat, turned = _flat(rows), _flat(np.flip(rows, -1))
        for other in range(start, len(known), _BLOCK):
            columns = _flat(_details(known[other : other + _BLOCK])).T
            plain, mirrored = flat @ columns, turned @ columns
            for row, column in zip(*np.nonzero((np.abs(plain) >= alike) | (mirrored >= alike)), strict=True):
                if (a := start + int(row)) < (b := other + int(column)):
                    how = _how(known[a][1], known[b][1], float(plain[row, column]), float(mirrored[row, column]))
                    yield Pair(known[a][0], known[b][0], how)


def _details(known: Sequence[tuple[Examined, Image]]) -> np.ndarray:
    return np.stack([image.signature.detail for _, image in known]).astype(np.float32)


def _flat(details: np.ndarray) -> np.ndarray:
    return details.reshape(len(details), -1)


def _how(a: Image, b: Image, plain: float, mirrored: float) -> str:
    if a.digest == b.digest:
        return "the same image"
    if abs(plain) >= mirrored:
        return f"almost the same image{' with dark and bright exchanged' if plain < 0 else ''} ({abs(plain):.3f})"
    return f"almost the same image, mirrored ({mirrored:.3f}),"


def _annotated_otherwise(one: Examined, other: Examined) -> str:
    if one.image is None or other.image is None or one.image.digest != other.image.digest:
        return ""
    same = one.objects is not None and other.objects is not None and one.objects.digest == other.objects.digest
    return "" if same else "; the two are annotated differently"


def _named_twice(cases: Sequence[Examined]) -> Iterator[tuple[Examined, Finding]]:
    times = Counter(case.case.id for case in cases)
    for case in cases:
        if times[case.case.id] > 1:
            yield case, Finding("case twice", f"{times[case.case.id]} cases have this name")


def _patients(cases: Sequence[Examined]) -> Iterator[tuple[Examined, Finding]]:
    """Cases of a patient that is in several splits, where fewer of its cases are; also by what the files state."""
    by_patient: dict[tuple[str, str], list[Examined]] = defaultdict(list)
    for case in cases:
        by_patient["patient", case.case.patient].append(case)
        if case.image is not None and case.image.scan_patient:
            by_patient["patient of the file", case.image.scan_patient].append(case)
    for (what, patient), own in by_patient.items():
        splits = Counter(case.split for case in own)
        if len(splits) < 2:
            continue
        most = max(splits.values())
        fewest = {split for split, n in splits.items() if n < most} or set(splits)
        listed = " and ".join(f"{n} in {split}" for split, n in splits.items())
        for case in own:
            if case.split in fewest:
                text = f"{what} {patient} is in several splits: {listed}"
                others = tuple(other.case.id for other in own if other.split != case.split)
                yield case, Finding("patient in two splits", text, others)
