"""The cases that a run was trained on, remembered by the contents of their files.

Names do not identify a case: a table may be split anew after the training, and files may be replaced.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from cphloc.config import jsonio
from cphloc.config.json_file import read_json
from cphloc.data.case import Case
from cphloc.data.dataset import Dataset
from cphloc.data.fingerprint import content_hash, image_hashes
from cphloc.data.pipeline.prepare import PreparedCases
from cphloc.errors import DataError
from cphloc.files import atomic
from cphloc.structures.split import Split

FILE = "data.json"
"""Name of the file in the folder of a run, and of an entry, where the cases have no names."""

MAX_BYTES = 200_000_000
"""Largest size of the file: half a million cases."""

FITTED_BEFORE: Mapping[str, tuple[Split, ...]] = {"train": (), "val": ("train",), "test": ("train", "val")}
"""For each split, the splits that the weights or their selection depend on when it is used."""

OF_STAGES: Mapping[str, str] = {"train": "train of its stages", "val": "val of its stages"}
"""Keys of the cases that the stages of a pipeline were trained and validated on, by split."""


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
        inherited: split -> `image_hashes` of the training and validation cases of the models that the weights come
            from: the one whose weights the training started with, and its teacher.
    """

    cases: Mapping[str, Mapping[str, SeenCase]]
    unused: Mapping[str, Sequence[str]]
    inherited: Mapping[str, Sequence[str]] = field(default_factory=dict)

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
    def of_dataset(cls, dataset: Dataset, splits: Iterable[Split]) -> SeenData:
        """Collect all cases of the splits, before any is prepared.

        Raises:
            DataError: a file cannot be read.
        """
        seen = {
            split: {c.id: SeenCase(c.patient, content_hash(c), image_hashes(c)) for c in dataset.cases(split)}
            for split in splits
        }
        return cls(seen, {split: [] for split in seen})

    @classmethod
    def read(cls, folder: Path) -> SeenData | None:
        """Read the file in the folder of a run; ``None`` for a run of an earlier version, which has none.

        Raises:
            DataError: the file is damaged.
        """
        path = folder / FILE
        return cls.parse(path) if path.is_file() else None

    @classmethod
    def parse(cls, path: Path) -> SeenData:
        """Read the file of a run or of an entry, in which the cases have no names.

        Raises:
            DataError: the file is damaged.
        """
        try:
            plain = read_json(path, MAX_BYTES)
            cases = {split: {id: _case(facts) for id, facts in of.items()} for split, of in plain["cases"].items()}
            return cls(cases, _lists(plain["unused"]), _lists(plain.get("inherited", {})))
        except (DataError, ValueError, KeyError, TypeError, AttributeError) as error:
            msg = f"{path}: is damaged ({error}); restore it, or train again"
            raise DataError(msg) from None

    def write(self, folder: Path) -> None:
        """Write the file to the folder of a run."""
        with atomic(folder / FILE) as temporary:
            temporary.write_text(jsonio.dumps(asdict(self), separators=(",", ":")) + "\n", encoding="utf-8")

    def without_names(self) -> SeenData:
        """Number the cases of each split in the order of their contents, without ids and patients, for publishing."""
        cases = {}
        for split, seen in self.cases.items():
            ordered = sorted(seen.values(), key=lambda case: (case.content, case.images))
            cases[split] = {str(number): replace(case, patient="") for number, case in enumerate(ordered, 1)}
        unused = {split: [str(n) for n in range(len(ids))] for split, ids in self.unused.items()}
        own = replace(self, inherited={})  # what both have is stored once
        inherited = {split: sorted(set(images) - own.images(split)) for split, images in self.inherited.items()}
        return SeenData(cases, unused, inherited)

    def images(self, split: str) -> set[str]:
        """Return the `image_hashes` of the cases of a split, also those that are inherited."""
        own = {image for case in self.cases.get(split, {}).values() for image in case.images}
        return own.union(self.inherited.get(split, ()))

    def inheriting(self, models: Iterable[SeenData]) -> SeenData:
        """Return the data together with those that earlier models were trained and validated on."""
        known = [self.inherited, *({split: model.images(split) for split in ("train", "val")} for model in models)]
        images = {split: sorted(set().union(*(one.get(split, ()) for one in known))) for split in ("train", "val")}
        return replace(self, inherited={split: found for split, found in images.items() if found})

    def changed_contents(self, now: Mapping[str, Mapping[str, str]]) -> list[str]:
        """List how the data differ from what was seen, by the contents of the cases alone, whatever their names.

        Args:
            now: split -> id of the case -> `content_hash`; splits without any case are not compared.
        """
        found = []
        for split, seen in self.cases.items():
            if not now.get(split):
                continue
            known, present = Counter(case.content for case in seen.values()), Counter(now[split].values())
            gone, new = (known - present).total(), (present - known).total() - len(self.unused.get(split, ()))
            if gone:
                found.append(f"{gone} of {len(seen)} {split} cases have changed or are gone")
            elif new > 0:
                found.append(f"{new} {split} cases are new")
        return found

    def changes(self, now: Mapping[str, Mapping[str, str]]) -> list[str]:
        """List how the data differ from what was trained on.

        Args:
            now: split -> id of the case -> `content_hash`, as `contents_of` gives them.
        """
        found = []
        for split, seen in self.cases.items():
            if split in OF_STAGES.values():
                continue
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
        for before in [key for of in FITTED_BEFORE[split] for key in (of, OF_STAGES[of])]:
            seen = self.cases.get(before, {})
            images = self.images(before)
            patients = {case.patient for case in seen.values()}
            shared = [
                case.id
                for case in cases
                if (own and (case.id in seen or case.patient in patients)) or images.intersection(image_hashes(case))
            ]
            if shared:
                when = "the run, or a model that its weights come from," if self.inherited else "the run"
                found.append(
                    f"{len(shared)} of {len(cases)} {split} cases (or their patients) were in {before} when {when} "
                    f"was trained: {some(shared)}"
                )
        return found


def _lists(plain: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    found = {split: list(names) for split, names in plain.items()}
    if not all(isinstance(name, str) for names in found.values() for name in names):
        msg = "a list is not made of text"
        raise ValueError(msg)
    return found


def _case(facts: Mapping[str, Any]) -> SeenCase:
    case = SeenCase(**facts)
    if not all(isinstance(text, str) for text in (case.patient, case.content, *case.images)):
        msg = "a case is not made of text"
        raise ValueError(msg)
    return case


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
