"""Hash the contents of a data set, and check that its splits share no case and no patient."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable

from cphloc.data.case import Case
from cphloc.data.dataset import Dataset
from cphloc.data.io.source_files import content_digest
from cphloc.errors import DataError
from cphloc.structures.split import SPLITS


def content_hash(case: Case) -> str:
    """Return the SHA-256 of the file contents of a case and its annotation outside files; paths are not hashed.

    Raises:
        DataError: a file cannot be read.
    """
    digest = hashlib.sha256()
    for path in case.files:
        digest.update(content_digest(path))
    source = case.annotation
    stated: tuple[object, ...]
    stated = (source.boxes, source.box_classes, source.spheres, source.sphere_classes, source.label)
    if source.instances is not None:
        stated += tuple(source.instances.values())
    stated += tuple(part for part in (source.outlines, source.size) if part is not None)
    if source.known is not None and not all(source.known):
        stated += (source.known,)
    if source.limit is not None:
        stated += (source.limit.name,)
    digest.update(repr(stated).encode())
    return digest.hexdigest()


def image_hashes(case: Case) -> tuple[str, ...]:
    """Return the SHA-256 of the contents of each image of a case.

    Raises:
        DataError: a file cannot be read.
    """
    return tuple(content_digest(image).hex() for image in case.images)


def fingerprint(contents: Iterable[tuple[str, str]]) -> str:
    """Return the SHA-256 of pairs of case id and `content_hash`, independent of their order.

    >>> fingerprint([("a", "1"), ("b", "2")]) == fingerprint([("b", "2"), ("a", "1")])
    True
    """
    lines = sorted(f"{name} {content}\n" for name, content in contents)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def check_splits(dataset: Dataset) -> None:
    """Check that no case and no patient is in two splits, and no case twice in one.

    Raises:
        DataError: a case or patient is duplicated; the message contains the first.
    """
    for split in SPLITS:
        name, times = next(iter(Counter(case.id for case in dataset.cases(split)).most_common(1)), ("", 0))
        if times > 1:
            msg = (
                f"case '{name}' is {times} times in {split}; give every case a name of its own, or remove the repeated"
            )
            raise DataError(msg)
    for name, of in (("case", lambda c: c.id), ("patient", lambda c: c.patient)):
        seen: dict[str, str] = {}
        for split in SPLITS:
            for value in {of(case) for case in dataset.cases(split)}:
                if value in seen:
                    msg = f"{name} '{value}' is in {seen[value]} and in {split}; each {name} belongs to one split only"
                    raise DataError(msg)
                seen[value] = split
