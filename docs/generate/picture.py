"""Draw the picture of the README from entries and samples that ship: ``python docs/generate/picture.py``."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle
from PIL import Image

import cphloc
from cphloc import Localization

OUT = Path(__file__).parent.parent / "pictures" / "results.png"
SCAN = Path(cphloc.__file__).parent / "data" / "sample" / "hippocampus" / "images" / "hippocampus_149.nii.gz"
COLOURS = ("#ff7043", "#29b6f6", "#ffee58")
_LEAST_SCORE = 0.5
_COLOURS_KEPT = 256
"""Colours of the picture, which halve its file."""


def predicted(name: str, source: Any = None) -> Localization:
    """Predict the sample of an entry, or another image."""
    listing = cphloc.list_entries(name=name)[0]
    if source is None:
        sample = Path(listing.place) / "sample"
        source = next(p for p in sorted(sample.iterdir()) if p.suffix in (".png", ".jpg"))
    return cphloc.load(str(listing)).predict(source)


def background(axis: Any, picture: np.ndarray, title: str) -> None:
    """Draw a grey or colour picture under a title, without axes."""
    low, high = np.percentile(picture, (0.5, 99.5))
    scaled = np.clip((picture - low) / max(high - low, 1e-6), 0, 1)
    axis.imshow(scaled, cmap="gray", interpolation="bilinear")
    axis.set_title(title, fontsize=9, family="monospace")
    axis.set_axis_off()


def draw_mask(axis: Any) -> None:
    """Draw the slice of a volume in which the mask is largest."""
    result = predicted("unet3d-hippocampus", SCAN)
    assert result.masks is not None
    z = int((result.masks > 0).sum(axis=(1, 2)).argmax())
    background(axis, result.image.array[0, z], "unet3d-hippocampus: mask")
    for number, colour in zip(result.classes, COLOURS, strict=False):
        axis.contourf(result.masks[z] == number, levels=[0.5, 1.5], colors=[colour], alpha=0.55)
    sizes = (f"{name} {of['volume_ml']:.2f} mL" for name, of in result.measurements.items())
    axis.text(0.5, -0.06, ", ".join(sizes), transform=axis.transAxes, ha="center", fontsize=8)


def draw_boxes(axis: Any) -> None:
    """Draw the boxes on a photograph whose score is at least one half."""
    result = predicted("yolox2d-bloodcells")
    background(axis, np.moveaxis(result.image.array, 0, -1), "yolox2d-bloodcells: boxes")
    shown = [box for box in result.boxes or [] if box.score >= _LEAST_SCORE]
    for box in shown:
        y0, x0, y1, x1 = box.voxels
        colour = COLOURS[(box.number - 1) % len(COLOURS)]
        axis.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=colour, linewidth=1.2))
    counts = (f"{sum(b.name == name for b in shown)} {name}" for name in result.classes.values())
    axis.text(0.5, -0.06, ", ".join(counts), transform=axis.transAxes, ha="center", fontsize=8)


def draw_attention(axis: Any) -> None:
    """Draw where a classifier looked, over the picture that it classified."""
    result = predicted("attention2d-breast-ultrasound")
    assert result.attention is not None
    assert result.probabilities is not None
    background(axis, result.image.array[0], "attention2d-breast-ultrasound: attention")
    share = result.attention / result.attention.max()
    axis.imshow(share, cmap="inferno", alpha=np.sqrt(share) * 0.65, interpolation="bilinear")
    shown = (f"{name} {value:.2f}" for name, value in result.probabilities.items())
    axis.text(0.5, -0.06, ", ".join(shown), transform=axis.transAxes, ha="center", fontsize=8)


def main(out: Path = OUT) -> None:
    """Draw the three results side by side and write one picture."""
    figure, axes = plt.subplots(1, 3, figsize=(10, 3.6), dpi=95, gridspec_kw={"width_ratios": [1, 1.33, 1]})
    for axis, draw in zip(axes, (draw_mask, draw_boxes, draw_attention), strict=True):
        draw(axis)
    figure.tight_layout()
    out.parent.mkdir(parents=True, exist_ok=True)
    drawn = BytesIO()
    figure.savefig(drawn)
    picture = Image.open(drawn).convert("RGB")
    palette = picture.quantize(_COLOURS_KEPT, method=Image.Quantize.MEDIANCUT)
    picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).save(out, optimize=True)


if __name__ == "__main__":
    main()
