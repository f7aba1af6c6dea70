"""Reports on a batch of predictions: CSV, JSON or HTML, chosen by the file suffix."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cphloc.config import jsonio
from cphloc.config.tables import write_table
from cphloc.errors import InputError
from cphloc.files import atomic
from cphloc.inference.html_page import html_page, rendered

SUFFIXES = (".csv", ".json", ".html")
"""Suffixes of the formats of a report."""

_TEMPLATE = Path(__file__).with_name("templates") / "report.html"
_FIRST = ("case", "status", "seconds", "error", "input")


def check_suffix(path: str | Path) -> None:
    """Check the suffix of a report, so that a mistake is reported before anything is predicted.

    Raises:
        InputError: the suffix is not one of `SUFFIXES`.
    """
    if Path(path).suffix.lower() not in SUFFIXES:
        msg = f"{path}: the name of a report must end in {', '.join(SUFFIXES)}; rename it"
        raise InputError(msg)


def write_report(
    path: str | Path, rows: Sequence[Mapping[str, Any]], spacing_mm: Sequence[float] | None = None
) -> None:
    """Write a report with one row per case.

    Args:
        path: file to write, see `SUFFIXES`.
        rows: from `predict_cases`.
        spacing_mm: voxel size of images that state none, which a page reads again to show them.

    Raises:
        InputError: the suffix is not one of `SUFFIXES`.
    """
    check_suffix(path)
    path = Path(path)
    with atomic(path) as temporary:
        if path.suffix.lower() == ".json":
            temporary.write_text(jsonio.dumps(rows, indent=2, default=str) + "\n", encoding="utf-8")
        elif path.suffix.lower() == ".csv":
            _write_csv(temporary, [flat_row(row) for row in rows])
        else:
            temporary.write_text(
                _page(rows, path.resolve().parent, spacing_mm), encoding="utf-8", errors="backslashreplace"
            )


def flat_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten the row of a case to table cells: ``tumour/volume_ml``, ``p/tumour``, ``unit/ct``, number of boxes.

    >>> flat_row({"case": "a", "measurements": {"tumour": {"volume_ml": 2.0}}, "probabilities": {"tumour": 0.9}})
    {'case': 'a', 'tumour/volume_ml': 2.0, 'p/tumour': 0.9}
    """
    cells = {key: row[key] for key in _FIRST if key in row}
    if isinstance(cells.get("input"), Mapping):
        cells["input"] = ",".join(f"{name}={file}" for name, file in cells["input"].items())
    cells |= {"model": "; ".join(f"{one['name']}@{one['version']}" for one in row["models"])} if "models" in row else {}
    for key in ("weights_sha256", "cphloc") if "models" in row else ():
        cells[key] = "; ".join(dict.fromkeys(str(one[key]) for one in row["models"]))
    cells |= {"input_sha256": "; ".join(row["input_sha256"].values())} if row.get("input_sha256") else {}
    cells |= {f"unit/{name}": of["unit"] for name, of in row.get("inputs", {}).items()}
    if row.get("warnings"):
        cells["warnings"] = "; ".join(row["warnings"])
    for name, sizes in row.get("measurements", {}).items():
        cells |= {f"{name}/{key}": value for key, value in sizes.items()}
    cells |= {f"p/{name}": value for name, value in row.get("probabilities", {}).items()}
    cells |= {"boxes": len(row["boxes"])} if "boxes" in row else {}
    return cells | ({"notes": "; ".join(row["notes"])} if row.get("notes") else {})


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys([*_FIRST, *(key for row in rows for key in row)]))


def _write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    write_table(path, _columns(rows), rows)


def _page(rows: Sequence[Mapping[str, Any]], folder: Path, spacing_mm: Sequence[float] | None) -> str:
    """Return the HTML of a report, with a viewer of 3-D results where the extra ``view`` is installed."""
    from markupsafe import Markup

    flat = [flat_row(row) for row in rows]
    columns = _columns(flat)
    viewed, script, notes = _viewer(rows, spacing_mm)
    body = rendered(
        _TEMPLATE,
        rows=[
            {"case": str(row["case"]), "picture": _picture(row, folder), "cells": [cells.get(c, "") for c in columns]}
            for row, cells in zip(rows, flat, strict=True)
        ],
        columns=columns,
        failed=sum(row["status"] == "failed" for row in rows),
        viewer=Markup(viewed),
        notes=notes,
    )
    style = "td img { width: 14rem; border-radius: .3rem; }\n"
    return html_page("Predictions", body, style, script, module=True)


def _viewer(rows: Sequence[Mapping[str, Any]], spacing_mm: Sequence[float] | None) -> tuple[str, str, list[str]]:
    """Return HTML and script of the viewer, empty without 3-D results, and notes on what it does not show."""
    from cphloc.inference import viewer
    from cphloc.inference.batch_scenes import is_3d, scenes_of

    if not any(map(is_3d, rows)):
        return "", "", []
    if not viewer.is_available():
        return "", "", ["3-D results can be turned and windowed here with the extra: pip install 'cphloc[view]'"]
    scenes, notes = scenes_of(rows, spacing_mm)
    return (viewer.viewer_html(scenes), viewer.viewer_script(), notes) if scenes else ("", "", notes)


def _picture(row: Mapping[str, Any], folder: Path) -> str:
    """Return the address of the picture of a case, relative to the folder of the report; empty without one."""
    pictures = [file for file in row.get("files", []) if file.endswith("_overlay.png")]
    if not pictures:
        return ""
    return quote(Path(os.path.relpath(Path(pictures[0]).resolve(), folder)).as_posix(), errors="surrogateescape")
