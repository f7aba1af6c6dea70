"""Choose the case of each training patch, such that every head and every class gets its share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from cphloc.data.case import AnnotationSource
from cphloc.data.pipeline.prepare import PreparedCases
from cphloc.errors import counted
from cphloc.structures.rung import Rung


@dataclass(frozen=True)
class Group:
    """Cases that take turns with those of the other groups.

    Args:
        heads: names of the heads that learn from these cases.
        words: what the cases have in common, for people.
        cases: indices of the cases.
    """

    heads: tuple[str, ...]
    words: str
    cases: tuple[int, ...]


@dataclass(frozen=True)
class Draw:
    """Where one patch comes from.

    Args:
        case: index of the case.
        label: class on an object of which the patch is centred; 0 for any class, ``None`` for a random position.
    """

    case: int
    label: int | None


class Draws:
    """Choose the case of patch ``i`` from the seed and ``i`` alone.

    The cases that a head can learn from form a group; groups take turns, so that a head whose annotation is rare is
    trained as often as the others. Heads with the same cases share a group. Within a group, every case is used once
    per epoch, in a new random order; patches that are centred on an object take each class in turn, from another case
    where the case does not contain it.

    Args:
        cases: preprocessed training cases.
        rungs: name of each head -> weakest annotation that it learns from, ``None`` if it needs none; without heads,
            all cases form one group.
        foreground: fraction of patches in [0, 1] that are centred on an object, spaced evenly in each group.
        seed: random seed.
    """

    def __init__(
        self,
        cases: PreparedCases,
        rungs: Mapping[str, Rung | None] | None = None,
        foreground: float = 0.33,
        seed: int = 0,
    ) -> None:
        self.cases = cases
        self.groups = groups_of([case.annotation for case in cases.cases], rungs or {})
        self.foreground = foreground
        self.seed = seed
        self._holding = self._holders() if foreground > 0 else []

    def __getitem__(self, index: int) -> Draw:
        turn, count = index % len(self.groups), index // len(self.groups)
        group = self.groups[turn].cases
        epoch, position = divmod(count, len(group))
        case = group[_order(self.seed, turn, epoch, len(group))[position]]
        centred, before = int((count + 1) * self.foreground), int(count * self.foreground)
        if centred == before:
            return Draw(case, None)
        return self._with_class(case, turn, before, index)

    def _with_class(self, case: int, turn: int, number: int, index: int) -> Draw:
        """The case, or another of its group, with an object of the class whose turn it is."""
        holding = self._holding[turn]
        if not holding:
            return Draw(case, 0)
        label = sorted(holding)[number % len(holding)]
        if case not in holding[label]:
            rng = np.random.default_rng(np.random.SeedSequence((self.seed, index), spawn_key=(2,)))
            case = int(rng.choice(holding[label]))
        return Draw(case, label)

    def _holders(self) -> list[dict[int, list[int]]]:
        """For each group: class -> indices of the cases with an object of that class."""
        classes = [np.unique(self.cases[i].foreground[:, 0]).tolist() for i in range(len(self.cases))]
        found: list[dict[int, list[int]]] = []
        for group in self.groups:
            by_class: dict[int, list[int]] = {}
            for case in group.cases:
                for label in classes[case]:
                    by_class.setdefault(label, []).append(case)
            found.append(by_class)
        return found

    def describe(self) -> str:
        """Describe the share of the patches of each group in one line."""
        share = 100 / len(self.groups)
        parts = [
            f"{share:.0f} % from {counted(len(g.cases), 'case')} with {g.words}"
            + (f" (for {', '.join(g.heads)})" if g.heads else "")
            for g in self.groups
        ]
        centred = f"{100 * self.foreground:.0f} % centred on an object, each class in turn"
        return f"patches: {'; '.join(parts)}; {centred}"


_WORDS = {
    Rung.LABEL: "a label",
    Rung.REGION: "a region",
    Rung.BOXES: "boxes",
    Rung.MASK: "a mask",
}


def groups_of(sources: Sequence[AnnotationSource], rungs: Mapping[str, Rung | None]) -> list[Group]:
    """Group cases by the heads that learn from them; a head without any case is left out.

    A head learns from the cases that have its rung or a stronger one, and from those whose label excludes every class,
    which have no voxel and no box. Where the latter are more than the former, they form a group of their own.

    Args:
        sources: annotation of each case.
        rungs: name of each head -> weakest annotation that it learns from; ``None`` if it needs none.
    """
    merged: dict[tuple[int, ...], Group] = {}
    for head, rung in sorted(rungs.items(), key=lambda item: -(item[1] or 0)):
        for words, members in _members(sources, rung):
            group = merged.get(members, Group((), words, members))
            merged[members] = replace(group, heads=(*group.heads, head))
    return list(merged.values()) or [Group((), "any annotation", tuple(range(len(sources))))]


def _members(sources: Sequence[AnnotationSource], rung: Rung | None) -> list[tuple[str, tuple[int, ...]]]:
    """The one or two groups of cases from which a head with this rung learns, with what they have in common."""
    if rung is None:
        return [("or without annotation", tuple(range(len(sources))))]
    stated = [i for i, s in enumerate(sources) if s.rung is not None and s.rung >= rung]
    absent = [i for i, s in enumerate(sources) if (s.rung or 0) < rung and _excludes_all(s)]
    if not stated:
        return []
    if len(absent) <= len(stated):
        return [(_WORDS[rung], tuple(sorted(stated + absent)))]
    return [(_WORDS[rung], tuple(stated)), ("no finding by their label", tuple(absent))]


def _excludes_all(source: AnnotationSource) -> bool:
    return source.label is not None and all(value == 0 for value in source.label)


@lru_cache(maxsize=16)
def _order(seed: int, turn: int, epoch: int, cases: int) -> np.ndarray:
    """Random permutation of the cases of a group in one epoch."""
    return np.random.default_rng(np.random.SeedSequence((seed, epoch), spawn_key=(1, turn))).permutation(cases)
