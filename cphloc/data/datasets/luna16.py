"""LUNA16: lung nodules in CT, annotated by centre and diameter."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from cphloc.config.argument_types import NonNegativeInt
from cphloc.data.case import AnnotationSource, Case
from cphloc.data.dataset import Dataset, find_root, held_out
from cphloc.data.io.table import number, read_table
from cphloc.errors import DataError
from cphloc.structures.split import Split


class Luna16(Dataset):
    """CT series ``subset0..9/<seriesuid>.mhd`` with ``annotations.csv`` (Setio 2017, Medical Image Analysis 42:1).

    Nodules are annotated by centre, in LPS coordinates in mm, and diameter. They are converted to boxes with the
    geometry of each image, which is also correct for series with flipped axes. A series without annotation has no
    nodule of 3 mm or more.

    Args:
        root: folder of the subsets; by default ``luna16`` in the data folders.
        test_subsets: subsets that form the test split; a fifth of the others, by a hash of the series, forms val.

    Raises:
        NotFoundError: the folder does not exist.
    """

    dims = 3
    channels = ("ct",)

    def __init__(self, root: str | None = None, test_subsets: Sequence[NonNegativeInt] = (8, 9)) -> None:
        self.root = find_root("luna16", root, "annotations.csv")
        self.test_subsets = tuple(test_subsets)
        self.classes = {1: "nodule"}

    def _cases(self, split: Split) -> list[Case]:
        nodules = self._nodules()
        cases = []
        for path in sorted(self.root.glob("subset*/*.mhd")):
            tests = path.parent.name in {f"subset{n}" for n in self.test_subsets}
            chosen = "test" if tests else "val" if held_out(path.stem, 0.2) else "train"
            if chosen == split:
                spheres = tuple(nodules.get(path.stem, ()))
                annotation = AnnotationSource(spheres=spheres, sphere_classes=(1,) * len(spheres))
                cases.append(Case(path.stem, path.stem, (path,), annotation))
        return cases

    def _nodules(self) -> dict[str, list[tuple[float, ...]]]:
        columns = ("coordX", "coordY", "coordZ", "diameter_mm")
        path = self.root / "annotations.csv"
        nodules: dict[str, list[tuple[float, ...]]] = defaultdict(list)
        for row in read_table(path, ("seriesuid", *columns)):
            try:
                nodules[row["seriesuid"]].append(tuple(number(row[c]) for c in columns))
            except ValueError as error:
                msg = f"{path}:{row.line}: a coordinate is not a number ({error}); correct the row"
                raise DataError(msg) from error
        return nodules
