"""The cases that a run was trained on, remembered by the contents of their files.

Names do not identify a case: a table may be split anew after the training, and files may be replaced.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

from cphloc.config import jsonio
from cphloc.data.case import Case
from cphloc.data.dataset import Dataset
from cphloc.data.fingerprint import content_hash, image_hashes
from cphloc.data.pipeline.prepare import PreparedCases
from cphloc.errors import DataError
from cphloc.files import atomic
from cphloc.structures.split import Split

FILE = "data.json"
"""Name of the file in the folder of a run."""

FITTED_BEFORE: Mapping[str, tuple[Split, ...]] = {"train": (), "val": ("train",), "test": ("train", "val")}
"""For each split, the splits that the weights or their selection depend on when it is used."""


@dataclass(frozen=True)
class SeenCase:
    """A case as it was when it was trained on.

    Args:
        patient: id of the patient.
        content: `content_hash` of image and annotation.
        images: `image_hashes` of the images alone.
    """

    patient: str
    content: str
    images: Sequence[str]


@dataclass(frozen=True)
class SeenData:
    """Training and validation cases of a run.

    Args:
        cases: split -> id of the case -> the case.
        unused: split -> ids of the cases of the data set that were not used, such as unusable ones.
    """

    cases: Mapping[str, Mapping[str, SeenCase]]
    unused: Mapping[str, Sequence[str]]

    @classmethod
    def of(cls, splits: Mapping[str, PreparedCases], dataset: Dataset) -> SeenData:
        """Collect the prepared cases of every split."""
        seen, unused = {}, {}
        for split, prepared in splits.items():
            known = {case.id: case.patient for case in prepared.cases}
            seen[split] = {case.id: SeenCase(known[case.id], case.content, case.images) for case in prepared}
            unused[split] = [case.id for case in dataset.cases(cast(Split, split)) if case.id not in known]
        return cls(seen, unused)

    @classmethod
    def read(cls, folder: Path) -> SeenData | None:
        """Read the file in the folder of a run; ``None`` for a run of an earlier version, which has none.

        Raises:
            DataError: the file is damaged.
        """
        path = folder / FILE
        if not path.is_file():
            return None
        try:
            plain = json.loads(path.read_text(encoding="utf-8"))
            cases = {split: {id: SeenCase(**facts) for id, facts in of.items()} for split, of in plain["cases"].items()}
            return cls(cases, plain["unused"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            msg = f"{path}: is damaged ({error}); restore it, or train again"
            raise DataError(msg) from None

    def write(self, folder: Path) -> None:
        """Write the file to the folder of a run."""
        with atomic(folder / FILE) as temporary:
            temporary.write_text(jsonio.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    def changes(self, now: Mapping[str, Mapping[str, str]]) -> list[str]:
        """List how the data differ from what was trained on.

        Args:
            now: split -> id of the case -> `content_hash`, as `contents_of` gives them.
        """
        found = []
        for split, seen in self.cases.items():
            present = {id: content for id, content in now.get(split, {}).items() if id not in self.unused[split]}
            kinds = {
                "have changed": [id for id, case in seen.items() if present.get(id, case.content) != case.content],
                "are no longer in it": [id for id in seen if id not in present],
                "are new in it": [id for id in present if id not in seen],
            }
            found += [f"{len(ids)} {split} cases {what}: {some(ids)}" for what, ids in kinds.items() if ids]
        return found

    def leaks(self, cases: Iterable[Case], split: Split, own: bool = True) -> list[str]:
        """List cases that the weights depend on, by the contents of their images, their ids or their patients.

        Args:
            cases: cases to evaluate.
            split: their split; validation cases may not have been trained on, test cases neither trained on nor
                validated with.
            own: whether the cases are of the data set of the run; otherwise names mean nothing, and only contents
                are compared.
        """
        found, cases = [], list(cases)
        for before in FITTED_BEFORE[split]:
            seen = self.cases.get(before, {})
            images = {image for case in seen.values() for image in case.images}
            patients = {case.patient for case in seen.values()}
            shared = [
                case.id
                for case in cases
                if (own and (case.id in seen or case.patient in patients)) or images.intersection(image_hashes(case))
            ]
            if shared:
                found.append(
                    f"{len(shared)} of {len(cases)} {split} cases (or their patients) were in {before} when the run "
                    f"was trained: {some(shared)}"
                )
        return found


def contents_of(dataset: Dataset, splits: Iterable[Split]) -> dict[str, dict[str, str]]:
    """Return the `content_hash` of every case, by split and id; empty text for a case whose files cannot be read."""
    return {split: {case.id: _content(case) for case in dataset.cases(split)} for split in splits}


def some(names: Iterable[str], most: int = 5) -> str:
    """List the first names, for messages.

    >>> some(["a", "b", "c"], most=2)
    'a, b, ...'
    """
    names = list(names)
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def _content(case: Case) -> str:
    try:
        return content_hash(case)
    except DataError:
        return ""
