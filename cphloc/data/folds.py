"""Divide the training and validation cases of a data set into folds by patient, and hold one fold out.

The test split stays as it is. The division depends on the patients, their annotations and a seed alone, not on the
order of the cases.
"""

from __future__ import annotations

import copy
import hashlib
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cphloc.config import jsonio
from cphloc.data.case import Case
from cphloc.data.dataset import Dataset
from cphloc.data.presence import Presence, presence_of
from cphloc.distributed import processes
from cphloc.errors import DataError, InputError, counted
from cphloc.files import atomic
from cphloc.paths import readable
from cphloc.recipe.fields import Folds
from cphloc.structures.split import Split


def with_folds(dataset: Dataset, folds: Folds) -> Dataset:
    """Return the data set with ``folds.fold`` as validation split and all other folds as training split.

    Args:
        dataset: the data set, which stays unchanged.
        folds: how the cases are divided, and which fold is held out; ``fold`` is given.
    """
    divided = copy.copy(dataset)
    divided._cases = _HeldOut(dataset, folds)  # pyright: ignore[reportAttributeAccessIssue]  # replaces the method
    return divided


@dataclass
class _HeldOut:
    """Training cases, cases of the fold that is held out, and test cases; a replacement for `Dataset._cases`."""

    dataset: Dataset
    folds: Folds
    found: dict[Split, list[Case]] = field(default_factory=dict)

    def __call__(self, split: Split) -> list[Case]:
        """Return the cases of a split."""
        if split == "test":
            return self.dataset.cases("test")
        if not self.found:
            assert self.folds.fold is not None
            division = divide(self.dataset, self.folds)
            if processes.is_first():
                print(division.describe(self.folds.fold), file=sys.stderr)
            self.found = dict(zip(("train", "val"), division.split(self.folds.fold), strict=True))
        return self.found[split]


@dataclass(frozen=True)
class Division:
    """The cases of a data set, divided into folds.

    Args:
        cases: all training and validation cases.
        trained: for each fold, the ids of the cases that its network is trained on.
        held_out: for each fold, the ids of the cases that its network does not see.
    """

    cases: Sequence[Case]
    trained: Sequence[frozenset[str]]
    held_out: Sequence[frozenset[str]]

    def split(self, fold: int) -> tuple[list[Case], list[Case]]:
        """Return the training cases and the held-out cases of a fold, which is counted from 1."""
        parts = (self.trained[fold - 1], self.held_out[fold - 1])
        train, val = ([case for case in self.cases if case.id in ids] for ids in parts)
        return train, val

    def write(self, path: Path) -> None:
        """Write the folds as nnU-Net's ``splits_final.json``."""
        parts = zip(self.trained, self.held_out, strict=True)
        plain = [{"train": sorted(train), "val": sorted(val)} for train, val in parts]
        with atomic(path) as temporary:
            temporary.write_text(jsonio.dumps(plain, indent=1) + "\n", encoding="utf-8")

    def check_disjoint(self) -> None:
        """Check that no case is held out in two folds.

        Raises:
            DataError: a case is; the message names the first.
        """
        times = Counter(id for ids in self.held_out for id in ids)
        if twice := sorted(id for id, n in times.items() if n > 1):
            msg = f"case '{twice[0]}' is held out in {times[twice[0]]} folds; hold every case out in one fold only"
            raise DataError(msg)

    def describe(self, fold: int | None = None) -> str:
        """Describe the sizes of the folds, for the log.

        Args:
            fold: the fold that is held out, from 1; ``None`` for all.
        """
        patients = {case.id: case.patient for case in self.cases}
        lines = []
        if all(case.patient == case.id for case in self.cases):
            lines.append(
                "folds: every case counts as a patient, because the data set names no patients; "
                "data.patient takes them from the names of the cases"
            )
        for number, ids in enumerate(self.held_out, start=1):
            if fold in (None, number):
                of = counted(len({patients[id] for id in ids}), "patient")
                lines.append(
                    f"fold {number}/{len(self.held_out)}: {counted(len(ids), 'case')} of {of} held out, "
                    f"{len(self.trained[number - 1])} trained on"
                )
        return "\n".join(lines)


def divide(dataset: Dataset, folds: Folds) -> Division:
    """Divide the training and validation cases of a data set into folds.

    Args:
        dataset: the data set, before a fold is held out.
        folds: number of folds and seed, or the file that states the folds.

    Raises:
        DataError: fewer patients than folds; a patient has test cases too; or the stated folds have unknown cases, or
            a patient on both sides.
    """
    cases = [case for split in ("train", "val") for case in dataset.cases(split)]
    if shared := sorted({case.patient for case in cases} & {case.patient for case in dataset.cases("test")}):
        msg = f"patient '{shared[0]}' has test cases and others; put all cases of a patient in one split"
        raise DataError(msg)
    if folds.splits is not None:
        return stated(cases, dataset.cases("test"), Path(folds.splits), folds.of)
    number = drawn(cases, [presence_of(case, dataset) for case in cases], folds.of, folds.seed)
    held_out = [frozenset(case.id for case in cases if number[case.patient] == k) for k in range(folds.of)]
    everything = frozenset(case.id for case in cases)
    return Division(cases, [everything - ids for ids in held_out], held_out)


def drawn(cases: Sequence[Case], presence: Sequence[Presence], folds: int, seed: int) -> dict[str, int]:
    """Assign patients to folds that have like shares of each class, of each type of annotation, and of the cases.

    The rarest property is distributed first: each patient who has it goes to the fold that lacks most of its share
    (Sechidis, Tsoumakas & Vlahavas 2011, iterative stratification; here by patient).

    Args:
        cases: the cases.
        presence: what is annotated in each.
        folds: number of folds.
        seed: seed that decides between equal choices.

    Returns:
        patient -> number of the fold, from 0.

    Raises:
        DataError: there are fewer patients than folds.
    """
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for case, properties in zip(cases, presence, strict=True):
        counts[case.patient].update([*properties, ""])  # the empty property is that of being a case
    if len(counts) < folds:
        msg = f"{folds} folds need at least {folds} patients, and the training and validation cases are of "
        raise DataError(f"{msg}{len(counts)}; choose fewer folds")
    order = sorted(counts, key=lambda patient: hashlib.sha256(f"{seed} {patient}".encode()).digest())
    total = sum(counts.values(), Counter())
    lacking = [{name: n / folds for name, n in total.items()} for _ in range(folds)]
    number: dict[str, int] = {}
    while len(number) < len(counts):
        left = Counter(name for patient in order if patient not in number for name in counts[patient])
        rarest = min(left, key=lambda name: (name == "", left[name], name))
        having = [patient for patient in order if patient not in number and rarest in counts[patient]]
        for patient in sorted(having, key=lambda p: -counts[p][rarest]):
            chosen = max(range(folds), key=lambda k: (lacking[k][rarest], lacking[k][""], -k))
            number[patient] = chosen
            for name, n in counts[patient].items():
                lacking[chosen][name] -= n
    return _none_empty(number, order, folds)


def _none_empty(number: dict[str, int], order: Sequence[str], folds: int) -> dict[str, int]:
    """Move patients of the fullest folds into folds that have none."""
    for fold in range(folds):
        if fold not in number.values():
            fullest = Counter(number.values()).most_common(1)[0][0]
            number[next(patient for patient in order if number[patient] == fullest)] = fold
    return number


def stated(cases: Sequence[Case], test: Iterable[Case], path: Path, folds: int) -> Division:
    """Read the folds of nnU-Net's ``splits_final.json``, a list of ``{"train": [...], "val": [...]}`` by case.

    Raises:
        DataError: the file is not such a list, or a fold has unknown cases, or a patient or case on both sides.
    """
    parts = _read(path)
    if len(parts) != folds:
        n = len(parts)
        msg = f"{path}: states {n} folds, not {folds}; use --fold 1/{n} to {n}/{n}, or --cross-validate {n}"
        raise DataError(msg)
    patients = {case.id: case.patient for case in cases}
    tested = {case.id for case in test}
    for number, (train, val) in enumerate(parts, start=1):
        where = f"{path}: fold {number}"
        if not train or not val:
            raise DataError(f"{where}: train and val must both have cases")
        if unknown := sorted((train | val) - patients.keys()):
            why = "a test case" if unknown[0] in tested else "not a training or validation case of the data set"
            raise DataError(f"{where}: '{unknown[0]}' is {why}; correct the file")
        if shared := sorted({patients[id] for id in train} & {patients[id] for id in val}):
            raise DataError(f"{where}: patient '{shared[0]}' is in train and in val; put all cases of a patient in one")
    return Division(cases, [train for train, _ in parts], [val for _, val in parts])


def _read(path: Path) -> list[tuple[frozenset[str], frozenset[str]]]:
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        return [(_ids(part, "train"), _ids(part, "val")) for part in plain]
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror}); data.folds.splits is the path of nnU-Net's splits_final.json"
        raise DataError(msg) from None
    except (ValueError, KeyError, TypeError) as error:
        msg = f"{path}: must be a list of folds such as {{'train': ['a', 'b'], 'val': ['c']}} ({error!r}); correct it"
        raise DataError(msg) from None


def _ids(part: Mapping[str, Sequence[str]], name: str) -> frozenset[str]:
    ids = part[name]
    if not isinstance(ids, list) or not all(isinstance(id, str) for id in ids) or len(set(ids)) < len(ids):
        msg = f"'{name}' must be a list of different names of cases"
        raise ValueError(msg)
    return frozenset(readable(id) for id in ids)


def parse_fold(text: str) -> tuple[int, int]:
    """Parse ``k/n`` as the number of a fold, from 1, and the number of folds.

    Raises:
        InputError: it is not of that form, or out of range.

    >>> parse_fold("2/5")
    (2, 5)
    """
    first, slash, second = text.partition("/")
    if slash and first.isdecimal() and second.isdecimal() and 1 <= int(first) <= int(second) and int(second) > 1:
        return int(first), int(second)
    msg = f"a fold is written k/n, from 1/5 to 5/5 for five folds, got '{text}'"
    raise InputError(msg)
