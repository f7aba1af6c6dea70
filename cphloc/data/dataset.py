"""Base class of data sets, with functions to find their folder and split patients."""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from cphloc import paths
from cphloc.data.case import Case
from cphloc.errors import InputError, NotFoundError, did_you_mean
from cphloc.structures.rung import Rung
from cphloc.structures.sides import names_sides
from cphloc.structures.split import SPLITS, Split
from cphloc.structures.units import ScaledUnit


class Dataset(ABC):
    """A list of cases with images and annotations, in fixed splits.

    A plug-in adds a data set by a card ``dataset/<name>.yaml`` whose ``import:`` names a subclass. Its constructor
    takes ``root: str | None`` where files are needed, and names every argument with a type.

    Attributes:
        dims: number of axes of the images, 2 or 3.
        classes: class number 1..K -> name. The masks, boxes and labels of every case carry these numbers; 0 is the
            background. Heads of a recipe are matched with them by number and name, never by position.
        channels: names of the image channels, in order.
        units: unit of each channel that files which state theirs are converted to, such as PET in DICOM to SUV.
        laterality: whether classes are specific to a body side, so that a left-right flip must swap them.
        patient: pattern whose first group is the patient in the name of a case; ``None``: as the files state, else the
            case.
        fractions: rung -> fraction of the training patients whose annotation is used as far as this rung, to measure
            what weaker annotations are worth; the others keep their label alone. Empty: all of it is used.
        about: what the files state about the data, under the keys of ``data.about``: name, licence, citation, source.
        root: folder of the data.
    """

    dims: int
    classes: dict[int, str]
    channels: tuple[str, ...]
    units: tuple[ScaledUnit | None, ...] = ()
    laterality: bool = False
    patient: re.Pattern[str] | None = None
    fractions: Mapping[Rung, float] = {}
    about: Mapping[str, str] = {}
    root: Path

    @property
    def sided(self) -> bool:
        """Whether classes are specific to a body side: by ``laterality``, or by their names."""
        return self.laterality or names_sides(self.classes.values())

    @property
    def file_numbers(self) -> Mapping[int, int]:
        """Class number -> number that stands for the class in the files: the value in a mask, or the category id."""
        return {number: number for number in self.classes}

    def with_doubtful(self) -> Dataset | None:
        """Return this data set with its doubtful annotations; ``None`` where it lists none, or uses them already."""
        return None

    def cases(self, split: Split) -> list[Case]:
        """List the cases of ``train``, ``val`` or ``test``, always in the same order; no image is read.

        Raises:
            InputError: there is no such split.
        """
        if split not in SPLITS:
            msg = f"split '{split}' does not exist; choose one of {', '.join(SPLITS)}. {did_you_mean(split, SPLITS)}"
            raise InputError(msg.rstrip())
        cases = self._cases(split)
        patients = (case.patient if self.patient is None else self.patient_of(case.id) for case in cases)
        found = [self._completed(case, patient) for case, patient in zip(cases, patients, strict=True)]
        return [self._limited(case) for case in found] if split == "train" and self.fractions else found

    def _limited(self, case: Case) -> Case:
        """Limit the annotation of a training case to the strongest rung whose fraction of the patients has its own."""
        used = (rung for rung, fraction in self.fractions.items() if held_out(case.patient, fraction))
        limit = max(used, default=Rung.LABEL)
        return replace(case, annotation=replace(case.annotation, limit=limit))

    def _completed(self, case: Case, patient: str) -> Case:
        """Set what all data sets have in common; a case that has it already is returned itself."""
        id, patient = paths.readable(case.id), paths.readable(patient)
        units = self.units if any(self.units) else case.units
        if (id, patient, units) == (case.id, case.patient, case.units):
            return case
        return replace(case, id=id, patient=patient, units=units)

    def patient_of(self, name: str) -> str:
        """Return the patient of a case whose files do not state one: by the pattern `patient`, else the case itself.

        Raises:
            InputError: the pattern does not match the name.
        """
        if self.patient is None:
            return name
        found = self.patient.match(name)
        patient = found and (found[1] if self.patient.groups else found[0])
        if not patient:
            msg = f"data.patient: '{self.patient.pattern}' finds no patient in the name of case '{name}'; correct it"
            raise InputError(msg)
        return patient

    @abstractmethod
    def _cases(self, split: Split) -> list[Case]:
        """List the cases of a split, which is one of `SPLITS`."""


OWN_ROOT = "set data.root to your folder, relative to the recipe"
"""What to do where the folder of one's own data is not found."""


def find_root(name: str, root: str | None, proof: str, fix: str | None = None) -> Path:
    """Find the folder of a data set: ``root`` where it is given, else the first data folder that has it.

    Args:
        name: name of the data set, and of its folder below a data folder.
        root: folder given in the recipe.
        proof: file or folder that must exist in it.
        fix: what to do where it is not found; by default to fetch the data set.

    Raises:
        NotFoundError: the folder is not found; the message lists all folders that were searched.
    """
    candidates = [Path(root).expanduser()] if root is not None else [f / name for f in paths.data_folders()]
    for folder in candidates:
        if (folder / proof).exists():
            return folder
    searched = ", ".join(f"'{c}'" for c in candidates)
    fix = fix or f"run `cphloc data fetch {name}`, or set data.root or CPHLOC_DATA"
    msg = f"data set '{name}' not found: no '{proof}' in {searched}; {fix}"
    raise NotFoundError(msg)


def held_out(patient: str, fraction: float) -> bool:
    """Return True for approximately ``fraction`` of the patients, which are assigned to the validation split.

    The result depends only on a hash of the patient identifier, so it does not change when cases are added.
    """
    return hashed_split(patient, fraction, 0.0) == "val"


def hashed_split(patient: str, val: float, test: float, seed: int = 0) -> Split:
    """Assign a patient to a split by a hash of the identifier, so that it does not change when cases are added.

    Args:
        patient: identifier of the patient.
        val: approximate fraction of the patients in the validation split.
        test: approximate fraction of the patients in the test split.
        seed: another one divides the patients otherwise.

    >>> [hashed_split(str(i), 0.2, 0.1) for i in range(1000)].count("val")
    212
    """
    text = f"{seed}/{patient}" if seed else patient
    place = int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()[:8], "big") / 2**64
    if place < val:
        return "val"
    return "test" if place < val + test else "train"


def choose_channels(wanted: Sequence[str] | None, available: Sequence[str]) -> tuple[str, ...]:
    """Validate the channels requested by a recipe; ``None`` selects all available channels.

    Raises:
        InputError: a channel does not exist or occurs twice, or the list is empty.
    """
    chosen = tuple(available) if wanted is None else tuple(wanted)
    for name in chosen:
        if name not in available:
            msg = (
                f"channel '{name}' does not exist; choose from {', '.join(available)}. {did_you_mean(name, available)}"
            )
            raise InputError(msg.rstrip())
    if not chosen or len(set(chosen)) != len(chosen):
        msg = f"channels must be distinct and at least one, got {list(chosen)}"
        raise InputError(msg)
    return chosen
