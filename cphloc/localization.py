"""What was found in one image, in that image's own coordinates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cphloc.data.volume import Volume

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Box:
    """One object found.

    Args:
        name: its class.
        score: confidence in [0, 1].
        voxels: ``(2 D,)`` edges ``[lo..., hi...]`` on the image's grid, array-axis order.
        mm: ``(2 D,)`` ``[lo..., hi...]`` of the enclosing box in the world, LPS ``(x, y[, z])``; pixels where the image
            states no physical size.
    """

    name: str
    score: float
    voxels: tuple[float, ...]
    mm: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Localization:
    """Result of `cphloc.load(...).predict(...)`; parts that the model does not predict are ``None``.

    Args:
        image: the image as it was read.
        classes: foreground classes by number.
        masks: ``(*S)`` uint8, the class of every voxel, 0 for background.
        boxes: objects, most confident first.
        attention: ``(*S)`` float32, where the model looked; sums to 1.
        probabilities: probability that each class is present in the image, by name.
        extra: further outputs of a head, such as yearly risk.
        case: name for files and messages.
    """

    image: Volume
    classes: Mapping[int, str]
    masks: np.ndarray | None = None
    boxes: list[Box] | None = None
    attention: np.ndarray | None = None
    probabilities: dict[str, float] | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    case: str = "image"

    @property
    def measurements(self) -> dict[str, dict[str, float]]:
        """Size of every class of the mask: volume (mL) and longest in-plane diameter (mm) in 3-D, area (mm²) in 2-D.

        Where the image states no physical size the unit is the pixel, and the names say so.
        """
        if self.masks is None:
            return {}
        return {name: self._measure(self.masks == number) for number, name in self.classes.items()}

    def _measure(self, inside: np.ndarray) -> dict[str, float]:
        from cphloc.metrics.response import longest_diameter

        grid = self.image.geometry
        amount = float(np.count_nonzero(inside)) * grid.voxel_volume
        unit = grid.unit
        diameter = {f"longest_diameter_{unit}": longest_diameter(inside, grid.spacing_mm)}
        if grid.dims == 2:
            return {f"area_{unit}2": amount, **diameter}
        return {"volume_ml": amount / 1000, **diameter} if unit == "mm" else {f"volume_{unit}3": amount, **diameter}

    def summary(self) -> dict[str, Any]:
        """Facts without the voxels, ready for JSON."""
        facts: dict[str, Any] = {"case": self.case, "source": self.image.source}
        if self.masks is not None:
            facts["measurements"] = self.measurements
        if self.boxes is not None:
            facts["boxes"] = [vars(box) for box in self.boxes]
        if self.probabilities is not None:
            facts["probabilities"] = self.probabilities
        return facts | self.extra

    def plot(self, path: str | Path | None = None) -> Figure:
        """Draw what was found over the image.

        Args:
            path: write the picture there as well (PNG, PDF, SVG by suffix).

        Returns:
            the matplotlib figure; a notebook shows it.
        """
        from cphloc.data.overlay import overlay
        from cphloc.data.write import write_figure

        numbers = {name: number for number, name in self.classes.items()}
        figure = overlay(
            self.image,
            self.classes,
            {} if self.masks is None else {"cphloc": self.masks},
            [(np.asarray(b.voxels), numbers[b.name], f"{b.name} {b.score:.2f}") for b in self.boxes or ()],
            self.attention,
            self._title(),
        )
        if path is not None:
            write_figure(path, figure)
        return figure

    def _title(self) -> str:
        parts = [
            f"{name} {value:.1f} {key.rsplit('_', 1)[1].replace('ml', 'mL')}"
            for name, sizes in self.measurements.items()
            for key, value in sizes.items()
            if not key.startswith("longest")
        ]
        parts += [f"{name} p = {p:.2f}" for name, p in (self.probabilities or {}).items()]
        return f"{self.case}: {', '.join(parts)}" if parts else self.case

    def save(self, folder: str | Path) -> list[Path]:
        """Write everything that was found, in the geometry of the input; see `cphloc.data.write.write_localization`.

        Args:
            folder: made if it does not exist.

        Returns:
            the files written: masks and attention as NIfTI (PNG for pictures; also DICOM SEG where the input was DICOM),
            boxes as CSV and COCO JSON, the facts as JSON, and a picture.
        """
        from cphloc.data.write import write_localization

        return write_localization(self, Path(folder))
