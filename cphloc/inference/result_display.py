"""The representation of a result: what was measured and found, in a few lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from cphloc.structures.display import Display, listed
from cphloc.structures.geometry import Geometry


def result_display(
    case: str, model: str, facts: Mapping[str, Any], grid: Geometry, picture: Callable[[], str]
) -> Display:
    """Return the representation of a result.

    Args:
        case: name of the case.
        model: name and version of the model.
        facts: content of `Localization.summary`.
        grid: of the image.
        picture: returns the HTML of the result's picture.
    """
    size = " × ".join(map(str, grid.shape))
    spacing = f", voxels of {' × '.join(f'{s:.3g}' for s in grid.spacing_mm)} mm" if grid.unit == "mm" else ", pixels"
    rows = [("image", f"{size}{spacing}; {facts['source']}")]
    rows += [(name, _sizes(sizes)) for name, sizes in facts.get("measurements", {}).items()][:4]
    rows += list(_boxes(facts.get("boxes")))
    likely = [f"{name} {p:.3f}" for name, p in facts.get("probabilities", {}).items()]
    rows += [("probabilities", listed(likely))]
    rows += [("warning", warning) for warning in facts.get("warnings", ())[:2]]
    rows += [("note", note) for note in facts.get("notes", ())[:1]]
    return Display(f"Localization of {case} by {model}", rows, picture)


def size_title(case: str, facts: Mapping[str, Any]) -> str:
    """Return one line with the volume or area of every class, and the probabilities, for the title of a picture."""
    parts = [
        f"{name} {value:.1f} {_unit(key)}"
        for name, sizes in facts.get("measurements", {}).items()
        for key, value in sizes.items()
        if key.startswith(("volume", "area")) and "_low_" not in key and "_high_" not in key
    ]
    parts += [f"{name} p = {p:.2f}" for name, p in facts.get("probabilities", {}).items()]
    return f"{case}: {', '.join(parts)}" if parts else case


def _sizes(sizes: Mapping[str, float]) -> str:
    """Format the size of a class, its interval, and its diameter."""
    parts = []
    for key, value in sizes.items():
        if "_low_" in key:
            level = key.rsplit("_", 1)[1]
            high = sizes[key.replace("_low_", "_high_")]
            parts[-1] += f" ({level} % interval {value:.4g} to {high:.4g})"
        elif "_high_" not in key and not key.startswith("mean"):
            label = "longest diameter " if key.startswith("longest") else ""
            parts.append(f"{label}{value:.4g} {_unit(key)}")
    return ", ".join(parts)


def _unit(key: str) -> str:
    return key.rsplit("_", 1)[1].replace("ml", "mL")


def _boxes(boxes: list[Mapping[str, Any]] | None) -> Iterator[tuple[str, str]]:
    """Give one row with the number of boxes and the best of them."""
    if boxes is not None:
        best = [f"{box['name']} {box['score']:.2f}" for box in boxes]
        yield "boxes", f"{len(boxes)}{': ' if boxes else ''}{listed(best, most=4)}"
