"""The result of predicting one image, in the coordinates of that image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cphloc import __version__
from cphloc.config import jsonio
from cphloc.data.io.formats import split_series
from cphloc.errors import DataError, MissingExtraError
from cphloc.files import atomic, flush, temporary_folder
from cphloc.inference.result_display import result_display, size_title
from cphloc.inference.stage_outcome import StageOutcome
from cphloc.paths import portable
from cphloc.structures.display import Display, Displayed, image_html
from cphloc.structures.instances import ObjectMask, painted
from cphloc.structures.merging import of_part
from cphloc.structures.options import Options, SizeIntervals
from cphloc.structures.segment_codes import SegmentCode
from cphloc.structures.volume import Volume

if TYPE_CHECKING:
    from cphloc.data.io.picture import Picture

SHOWN_SCORE = 0.3
"""Least score of the boxes in a picture of a result without a threshold."""


@dataclass(frozen=True)
class Box:
    """One predicted object.

    Args:
        name: name of its class.
        score: confidence in [0, 1].
        voxels: ``(2 D,)`` edges ``[lo..., hi...]`` in voxels of the image, array-axis order.
        mm: ``(2 D,)`` edges ``[lo..., hi...]`` of the enclosing box in world coordinates, LPS ``(x, y[, z])`` in mm;
            in pixels if the image has no physical spacing.
        number: number of its class, as in masks; 0 if only the name is known.
        mask: voxels of the object, for models that outline objects one by one.
    """

    name: str
    score: float
    voxels: tuple[float, ...]
    mm: tuple[float, ...]
    number: int = 0
    mask: ObjectMask | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, eq=False, repr=False)
class Localization(Displayed):
    """Result of `Localizer.predict`; parts that the model does not predict are ``None``.

    Args:
        image: the image as it was read.
        classes: foreground classes, number 1..K -> name; those of one part by `cphloc.structures.merging.of_part`.
        masks: ``(*S)`` uint8, class of every voxel, 0 for background.
        boxes: objects by descending score.
        outlines: whether the model also outlines the object of each box, see `Box.mask`.
        attention: ``(*S)`` float32 attention map that sums to 1.
        probabilities: probability that each class is present in the image, by class name.
        extra: further outputs of a head, such as yearly risk.
        case: name of the case, for file names and messages.
        uncertainty: ``(*S)`` float32 in [0, 1], entropy of the class probabilities; ``None`` unless requested.
        remarks: what `save` could not write and why, and classes without a code in the DICOM SEG, one line each.
        model: name and version of the model.
        models: what computed the result: of each model its ``name``, ``version``, ``weights_sha256`` (``None`` for a
            model without a file) and the version of ``cphloc``.
        input_sha256: file -> hash of everything that was read for it; empty for arrays.
        codes: class name -> its code in the DICOM SEG.
        inputs: by channel, its ``modality``, its ``unit``, and by whom the unit is ``stated``: ``file``, ``user`` or
            ``entry``.
        warnings: ways in which the image is unlike what the model was trained on.
        computed: how it was computed: ``backend``, its largest ``difference`` from torch, and ``air_skipped``.
        thresholds: least score of ``boxes`` and least probability of a ``mask`` in this result; empty where none was
            applied.
        sizes: errors of measured sizes, for the intervals in ``measurements``; ``None`` where they are not known.
        options: what was applied besides the weights: mirrored views, thresholds, and what was removed from masks.
        stages: of a pipeline, what each stage saw and found, in order.
    """

    image: Volume
    classes: Mapping[int, str]
    masks: np.ndarray | None = None
    boxes: list[Box] | None = None
    outlines: bool = False
    attention: np.ndarray | None = None
    probabilities: dict[str, float] | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    case: str = "image"
    uncertainty: np.ndarray | None = None
    computed: Mapping[str, Any] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    model: tuple[str, str] = ("cphloc", __version__)
    models: tuple[Mapping[str, str | None], ...] = ()
    input_sha256: Mapping[str, str] = field(default_factory=dict)
    codes: Mapping[str, SegmentCode] = field(default_factory=dict)
    inputs: Mapping[str, Mapping[str, str | None]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    thresholds: Mapping[str, float] = field(default_factory=dict)
    options: Options = field(default_factory=Options)
    sizes: SizeIntervals | None = None
    stages: tuple[StageOutcome, ...] = ()

    def applying(self, options: Options) -> Localization:
        """Return the result with the boxes whose score reaches the threshold, and what is kept of the mask.

        Args:
            options: thresholds, of which that of the ``mask`` has been applied before, least label probabilities of
                the classes of the mask, and sizes of components.
        """
        least = options.thresholds.get("boxes", 0.0)
        boxes = self.boxes
        if boxes is not None and options.thresholds:
            boxes = [box for box in boxes if box.score >= least]
        given = {"boxes": boxes is not None, "mask": self.masks is not None}
        stated = {str(part): t for part, t in options.thresholds.items() if given[part]}
        masks, remarks = self.masks, []
        if masks is not None and options.filters_masks:
            from cphloc.inference.mask_filter import filter_mask

            masks, remarks = filter_mask(masks, self.image.geometry, self.classes, options, self.probabilities)
        warnings = (*self.warnings, *remarks)
        return replace(self, boxes=boxes, masks=masks, thresholds=stated, options=options, warnings=warnings)

    @property
    def instances(self) -> np.ndarray | None:
        """Label image ``(*S)`` int32 of the outlined objects: k for ``boxes[k - 1]``, 0 for none.

        Where objects overlap, the one of higher score is used. ``None`` for models that do not outline objects.
        """
        if self.boxes is None or not any(box.mask is not None for box in self.boxes):
            return None
        return painted([box.mask for box in self.boxes], self.image.geometry.shape)

    @property
    def measurements(self) -> dict[str, dict[str, float]]:
        """Sizes of each class of the mask by name: ``volume_ml`` in 3-D, ``area_mm2`` in 2-D, ``longest_diameter_mm``.

        The diameter is the longest in any axial plane of the patient. If the image has no physical spacing, sizes are
        in pixels, with ``px`` in their names. If uncertainty was requested, ``mean_uncertainty`` is its mean over the
        class. Where the errors of the model are known from cases that it was not trained on, ``volume_ml_low_90`` and
        ``volume_ml_high_90`` (of areas likewise) are the ends of the 90 % prediction interval.
        """
        if self.masks is None:
            return {}
        from cphloc.inference.measurements import measured

        parts = self.image.geometry, self.uncertainty, self.sizes
        classes = of_part(self.classes, "mask")
        return {name: measured(name, self.masks == number, *parts) for number, name in classes.items()}

    def summary(self) -> dict[str, Any]:
        """Return everything except voxel data, as values that JSON can represent."""
        facts: dict[str, Any] = {"case": self.case, "source": self.image.source}
        facts |= {"models": [dict(one) for one in self.models]} if self.models else {}
        facts |= {"input_sha256": dict(self.input_sha256)} if self.input_sha256 else {}
        if self.inputs:
            facts |= {"inputs": {name: dict(of) for name, of in self.inputs.items()}, "warnings": list(self.warnings)}
        if self.masks is not None:
            facts["measurements"] = self.measurements
        if self.boxes is not None:
            hidden = ("mask",) if self.image.geometry.unit == "mm" else ("mm", "mask")  # pixels are no millimetres
            facts["boxes"] = [{k: v for k, v in vars(box).items() if k not in hidden} for box in self.boxes]
        if self.probabilities is not None:
            facts["probabilities"] = self.probabilities
        if self.thresholds:
            facts["thresholds"] = dict(self.thresholds)
        if applied := self.options.model_dump(exclude_defaults=True, exclude={"thresholds", "temperature"}):
            facts["options"] = applied
        if self.stages:
            facts["stages"] = [stage.to_plain() for stage in self.stages]
        if self.computed:
            facts["computed"] = dict(self.computed)
        if self.image.notes or self.remarks:
            facts["notes"] = [*self.image.notes, *self.remarks]
        return facts | self.extra

    def plot(self, path: str | Path | None = None) -> Picture:
        """Draw the result over the image; without a threshold, only boxes whose score reaches `SHOWN_SCORE`.

        Objects that the model outlines one by one have an outline and a colour each; others have that of their class.

        Args:
            path: file to write the figure to as well (PNG, PDF or SVG, by suffix).

        Returns:
            the matplotlib figure, which notebooks show.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        from cphloc.data.io.overlay import overlay

        numbers = {name: number for number, name in of_part(self.classes, "boxes").items()}
        least = self.thresholds.get("boxes", SHOWN_SCORE)
        shown = [box for box in self.boxes or () if box.score >= least]
        boxes = [(np.asarray(b.voxels), numbers[b.name], f"{b.name} {b.score:.2f}") for b in shown]
        classes, masks = of_part(self.classes, "boxes" if self.masks is None else "mask"), self.masks
        if (instances := replace(self, boxes=shown).instances) is not None:
            classes, masks = {}, instances
            boxes = [(edges, number, text) for number, (edges, _, text) in enumerate(boxes, start=1)]
        figure = overlay(
            self.image,
            classes,
            {} if masks is None else {"cphloc": masks},
            {} if self.boxes is None else {"cphloc": boxes},
            self.attention,
            size_title(self.case, {"measurements": self.measurements, "probabilities": self.probabilities or {}}),
        )
        if path is not None:
            with atomic(path) as temporary:
                figure.savefig(temporary)
        return figure

    def _display(self) -> Display:
        def picture() -> str:
            """Return the overlay of the result, and without matplotlib what to install."""
            try:
                return image_html(self.plot().png(), f"{self.case} with the result")
            except MissingExtraError as error:
                return f"<p>{escape(str(error))}</p>"

        return result_display(self.case, " ".join(self.model), self.summary(), self.image.geometry, picture)

    def save(self, folder: str | Path) -> list[Path]:
        """Write all parts of the result to files, in the geometry of the input.

        Args:
            folder: folder to write to, created if necessary; file names begin with the name of the case.

        Returns:
            the files: ``_mask`` and ``_instances`` (NIfTI; PNG for pictures), ``_attention`` and ``_uncertainty``
            (NIfTI), ``_seg.dcm`` (DICOM SEG) where the input was DICOM with all attributes that a SEG copies (else see
            ``remarks``), ``_boxes.csv`` (and COCO JSON in 2-D), ``_overlay.png`` (with matplotlib, else
            see ``remarks``) and, last, ``_result.json``.

        Raises:
            CphlocError: the folder cannot be written; and the files of an earlier result are unchanged.
        """
        stem = Path(folder) / portable(self.case)
        result = Path(f"{stem}_result.json")
        with temporary_folder(result) as aside:
            written = self._write(aside / stem.name)
            for file in written:
                file.replace(stem.with_name(file.name))
            flush(stem.parent)
        return [stem.with_name(file.name) for file in written]

    def _write(self, stem: Path) -> list[Path]:
        """Write all files, whose names begin with ``stem``, to a folder that is not seen yet."""
        self.remarks.clear()
        written = [*self._save_maps(stem), *self._save_boxes(stem)]
        written += self._save_dicom_seg(Path(f"{stem}_seg.dcm"))
        written += self._save_picture(Path(f"{stem}_overlay.png"))
        result = Path(f"{stem}_result.json")
        with atomic(result) as temporary:
            temporary.write_text(jsonio.dumps(self.summary(), indent=2) + "\n", encoding="utf-8")
        return [*written, result]

    def _save_picture(self, path: Path) -> Iterator[Path]:
        try:
            self.plot(path)
        except MissingExtraError as error:
            self.remarks.append(f"no picture: {error}")
            return
        yield path

    def _save_maps(self, stem: Path) -> Iterator[Path]:
        from cphloc.data.io.write import write_map, write_mask

        grid = self.image.geometry
        if self.masks is not None:
            path = Path(f"{stem}_mask{'.png' if grid.dims == 2 else '.nii.gz'}")
            write_mask(path, self.masks, grid)
            yield path
        if (instances := self.instances) is not None:
            path = Path(f"{stem}_instances{'.png' if grid.dims == 2 else '.nii.gz'}")
            write_mask(path, instances, grid)
            yield path
        for name, values in (("attention", self.attention), ("uncertainty", self.uncertainty)):
            if values is not None:
                path = Path(f"{stem}_{name}.nii.gz")
                write_map(path, values, grid)
                yield path

    def _save_dicom_seg(self, path: Path) -> Iterator[Path]:
        """Write a DICOM SEG of the mask, if the image came from DICOM (only DICOM images have a modality)."""
        source, series = split_series(self.image.source)
        if self.masks is None or self.image.modality is None or not source.exists():
            return
        from cphloc.data.io.write_dicom_seg import write_dicom_seg

        try:
            write_dicom_seg(
                path,
                self.masks,
                self.image.geometry,
                source,
                of_part(self.classes, "mask"),
                algorithm=self.model[0],
                version=self.model[1],
                series=series,
                codes=self.codes,
                weights=[one["weights_sha256"] or "" for one in self.models],
            )
        except (DataError, MissingExtraError) as error:
            self.remarks.append(f"no DICOM SEG: {error}")
            return
        if uncoded := [n for n in of_part(self.classes, "mask").values() if n not in self.codes]:
            self.remarks.append(
                f"{path.name}: no SNOMED CT code is known for {', '.join(uncoded)}; state it as `code` of the class in "
                "the recipe"
            )
        yield path

    def _save_boxes(self, stem: Path) -> Iterator[Path]:
        if self.boxes is None:
            return
        from cphloc.data.io.write import CaseBoxes, write_boxes_csv, write_coco

        dims, classes = self.image.dims, of_part(self.classes, "boxes")
        numbers = {name: number for number, name in classes.items()}
        boxes = CaseBoxes(
            self.case,
            self.image.geometry,
            np.array([box.voxels for box in self.boxes]).reshape(-1, 2 * dims),
            np.array([numbers[box.name] for box in self.boxes], int),
            np.array([box.score for box in self.boxes]),
            [box.mask for box in self.boxes],
        )
        table, coco = Path(f"{stem}_boxes.csv"), Path(f"{stem}_boxes.json")
        write_boxes_csv(table, [boxes], classes)
        yield table
        if dims == 2:
            write_coco(coco, [boxes], classes)
            yield coco
