"""Leave out the cases of a data set that cannot be read, and list them once."""

from __future__ import annotations

import copy
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from rich.console import Console

from cphloc.data.case import Case, checked, read_case
from cphloc.data.dataset import Dataset
from cphloc.errors import InputError, printable
from cphloc.progress import track
from cphloc.structures.split import SPLITS, Split


def without_unusable(dataset: Dataset) -> Dataset:
    """Return the data set without the cases that cannot be read or whose annotation does not fit.

    On first use all splits are read, and what is left out of each is listed on the error stream.

    Args:
        dataset: the data set, which stays unchanged.
    """
    reduced = copy.copy(dataset)
    reduced._cases = _UsableCases(dataset)  # pyright: ignore[reportAttributeAccessIssue]  # replaces the method
    return reduced


@dataclass
class _UsableCases:
    """The usable cases of a split; a replacement for `Dataset._cases` that can be pickled."""

    dataset: Dataset
    found: dict[str, list[Case]] = field(default_factory=dict)

    def __call__(self, split: Split) -> list[Case]:
        """Return the usable cases of a split."""
        if not self.found:
            self.found = {name: self._usable(name) for name in SPLITS}
        return self.found[split]

    def _usable(self, split: Split) -> list[Case]:
        cases = self.dataset.cases(split)
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            problems = list(track(pool.map(self._problem, cases), f"reading {split} cases", len(cases)))
        bad = [f"  case '{case.id}': {problem}" for case, problem in zip(cases, problems, strict=True) if problem]
        if bad:
            heading = f"{split}: {len(bad)} of {len(cases)} cases cannot be used and are left out (data.skip_bad):"
            Console(stderr=True, soft_wrap=True, markup=False).print("\n".join(map(printable, [heading, *bad])))
        return [case for case, problem in zip(cases, problems, strict=True) if not problem]

    def _problem(self, case: Case) -> str:
        """Reason why a case cannot be used; empty for a usable case."""
        try:
            volume, annotation = read_case(case, self.dataset.dims)
            checked(case, annotation, volume.geometry.shape, len(self.dataset.classes))
        except (InputError, OSError, MemoryError) as error:
            return str(error)
        return ""
