"""Where the annotation of a case is stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cphloc.data.io.formats import split_series
from cphloc.data.io.outlines import Outline
from cphloc.structures.rung import Rung


@dataclass(frozen=True, slots=True)
class AnnotationSource:
    """Sources of the annotation of a case: files, and values stored outside files. Missing parts are ``None``.

    Files are read by `read_case`. Class numbers are those of `cphloc.data.dataset.Dataset.classes`, 1..K.

    Args:
        mask: label mask on the grid of the image, or a file that names its regions, where ``rois`` is given.
        mask_classes: value in the mask file -> class number, 0 for background or 255 for not annotated; ``None``
            where the file holds class numbers.
        rois: name of a region, with wildcards (``*``, ``?``) -> class number, for files that name their regions:
            RTSTRUCT, DICOM SEG, Slicer segmentation; other files are read by their values. Where regions overlap, the
            last one is used. Of a class without a drawn region, nothing is known.
        instances: instance mask, whose values number the objects -> class number of all its objects, or of each object
            by its value. It gives a mask and a box for each object; where files overlap, the last one is used.
        boxes: voxel edges ``[lo..., hi...]`` in array-axis order of the file.
        box_classes: class number of each box; negative for a box to ignore, see `Annotation`.
        outlines: outline of each box, or ``None`` for a box without one; they give a mask.
        size: ``(H, W)`` of the picture to which boxes and outlines refer; a picture of another size is refused.
        relative: whether boxes and outlines are fractions of the picture's size.
        spheres: ``(x, y, z, diameter)`` in millimetres, LPS coordinates, as LUNA16 annotates nodules.
        sphere_classes: class number of each sphere.
        region: image of where the finding may be located, with values in [0, 1] or 0/255.
        label: for each class 1..K: 1 present, 0 absent, NaN unknown.
        known: for each class 1..K, whether it was looked for when the mask and the boxes were drawn; ``None`` if all
            were. Where one was not, the mask and the boxes leave unknown whether it is there.
        limit: strongest rung that is used of it, where ``label`` or ``known`` states the classes; what follows from a
            stronger one is kept, see `cphloc.structures.weakened`. ``None`` for all of it.
        problem: why the annotation cannot be used. `read_case` raises it, so that the case is reported together with
            all others that cannot be used.
    """

    mask: Path | None = None
    mask_classes: Mapping[int, int] | None = None
    rois: Mapping[str, int] | None = None
    instances: Mapping[Path, int | Mapping[int, int]] | None = None
    boxes: tuple[tuple[float, ...], ...] | None = None
    box_classes: tuple[int, ...] = ()
    outlines: tuple[Outline | None, ...] | None = None
    size: tuple[int, int] | None = None
    relative: bool = False
    spheres: tuple[tuple[float, ...], ...] | None = None
    sphere_classes: tuple[int, ...] = ()
    region: Path | None = None
    label: tuple[float, ...] | None = None
    known: tuple[bool, ...] | None = None
    limit: Rung | None = None
    problem: str | None = None

    @property
    def rung(self) -> Rung | None:
        """Strongest rung (mask > boxes > region > label) of the annotation; ``None`` without annotation."""
        stated = (
            (self.mask or self.instances or self.outlines, Rung.MASK),
            (self.boxes if self.spheres is None else self.spheres, Rung.BOXES),
            (self.region, Rung.REGION),
            (self.label, Rung.LABEL),
        )
        found = next((rung for value, rung in stated if value is not None), None)
        return found if found is None or self.limit is None else min(found, self.limit)

    @property
    def files(self) -> tuple[Path, ...]:
        """Annotation files, without the UID of a series."""
        stated = (self.mask, self.region, *(self.instances or ()))
        return tuple(split_series(path)[0] for path in stated if path is not None)
