"""Propose patients and splits for a user's own data, where files and tables state none."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from cphloc.data.case import Case
from cphloc.data.planning.about import OWN
from cphloc.data.planning.layout import Layout
from cphloc.data.planning.patients import choose_seed, find_pattern
from cphloc.errors import DataError
from cphloc.registry import catalogue
from cphloc.structures.split import SPLITS, Split

Notes = tuple[tuple[str, str], ...]
"""Pairs of what and how, for people."""

_SHARE = 0.15
"""Share of the patients in the validation split, and in the test split."""


def propose_splits(layout: Layout) -> tuple[Layout, Notes]:
    """Add the arguments that give patients and three splits, where they are not stated; by patient and reproducible.

    Args:
        layout: the data set.

    Returns:
        the data set with these arguments, and what was found or chosen.

    Raises:
        DataError: there is only one patient.
    """
    if catalogue.card("dataset", layout.name).licence != OWN:
        return layout, ()
    layout, patients = _with_patients(layout)
    layout, chosen = _with_splits(layout)
    cases = _cases(layout)
    numbers = ", ".join(f"{split} {len({c.patient for c in cases[split]})}" for split in SPLITS)
    return layout, (("patients", patients), ("splits", f"{numbers} patients, {chosen}"))


def _cases(layout: Layout) -> Mapping[Split, list[Case]]:
    dataset = layout.open()
    return {split: dataset.cases(split) for split in SPLITS}


def _with_patients(layout: Layout) -> tuple[Layout, str]:
    cases = [case for group in _cases(layout).values() for case in group]
    count = len({case.patient for case in cases})
    if layout.patient or any(case.patient != case.id for case in cases):
        return layout, f"{count}, as stated"
    pattern = find_pattern([case.id for case in cases])
    if pattern is None:
        column = "a column patient in cases.csv, or " if layout.name == "image_folder" else ""
        how = "data.patient: a pattern whose first group is the patient in the name of a case, such as (.+)_slice"
        return layout, f"every case counts as a patient of its own; if one has several, state it: {column}{how}"
    found = {match[1] for case in cases if (match := re.match(pattern, case.id))}
    return replace(layout, patient=pattern), f"{len(found)}, from the names of the cases, such as {min(found)}"


def _with_splits(layout: Layout) -> tuple[Layout, str]:
    """Add ``split_seed``, and where there are few patients ``val`` and ``test``, such that no split is empty."""
    cases = _cases(layout)
    taken = {argument.name for argument in catalogue.arguments(catalogue.card("dataset", layout.name))}
    if "split_seed" not in taken or {"val", "test", "split_seed"} & set(layout.arguments):
        return layout, "as stated"
    if layout.states_splits:
        return _with_validation(layout, cases)
    patients = sorted({case.patient for group in cases.values() for case in group})
    if len(patients) < 2:
        msg = f"{layout.place}: has {len(patients)} patient with annotations; training and validation need one each"
        raise DataError(msg)
    if len(patients) == 2:
        seed = choose_seed(patients, 0.5, 0.0) or 0
        arguments = {"val": 0.5, "test": 0.0, "split_seed": seed}
        return layout.with_arguments(arguments), "by a hash of the patient; too few for a test split"
    seed = choose_seed(patients, _SHARE, _SHARE)
    return layout.with_arguments({"split_seed": seed} if seed else {}), "by a hash of the patient"


def _with_validation(layout: Layout, cases: Mapping[Split, list[Case]]) -> tuple[Layout, str]:
    """Hold training patients out for validation, where the table states splits but none for it."""
    if cases["val"]:
        return layout, "as stated"
    patients = sorted({case.patient for case in cases["train"]})
    if len(patients) < 2:
        return layout, "as stated; add a case with the split val, without which nothing can be trained"
    seed = choose_seed(patients, _SHARE, 0.0) or 0
    arguments = {"hold_out": _SHARE, "split_seed": seed}
    return layout.with_arguments(arguments), "as stated; val is held out of train by a hash of the patient"
