"""Which classes and which type of annotation a case has, for sampling and stratification."""

from __future__ import annotations

import hashlib
import json

from cphloc.config import jsonio
from cphloc.data.case import Case, read_case
from cphloc.data.dataset import Dataset
from cphloc.data.fingerprint import content_hash
from cphloc.errors import DataError
from cphloc.files import atomic
from cphloc.paths import cached

Presence = tuple[str, ...]
"""Properties of a case: the rung of its annotation (``mask``), and its classes (``1: liver``)."""


def presence_of(case: Case, dataset: Dataset) -> Presence:
    """Find the type of annotation of a case and the classes that are present in it.

    The files are read once; the result is cached by their contents. A case that cannot be read has no property; the
    preparation of the cases reports it.

    Args:
        case: the case.
        dataset: its data set.
    """
    try:
        key = repr((content_hash(case), case.annotation, sorted(dataset.classes.items()), dataset.dims))
        path = cached("presence", f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json")
        if path.is_file():
            return tuple(json.loads(path.read_text(encoding="utf-8")))
        found = _presence(case, dataset)
    except (DataError, OSError):
        return ()
    with atomic(path) as temporary:
        temporary.write_text(jsonio.dumps(list(found)) + "\n", encoding="utf-8")
    return found


def _presence(case: Case, dataset: Dataset) -> Presence:
    volume, annotation = read_case(case, dataset.dims)
    rung = () if annotation.rung is None else (annotation.rung.name.lower(),)
    label = annotation.completed(volume.geometry.shape, len(dataset.classes)).label
    if label is None:
        return rung
    return (
        *rung,
        *(
            f"{number}: {name}"
            for (number, name), value in zip(dataset.classes.items(), label, strict=True)
            if value == 1
        ),
    )
