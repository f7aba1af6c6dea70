"""Reports on a batch of predictions: CSV, JSON or HTML, chosen by the file suffix."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cphloc.config import jsonio
from cphloc.config.tables import write_table
from cphloc.errors import InputError
from cphloc.files import atomic
from cphloc.inference.html_page import html_page

SUFFIXES = (".csv", ".json", ".html")
"""Suffixes of the formats of a report."""

_FIRST = ("case", "status", "seconds", "error", "input")


def check_suffix(path: str | Path) -> None:
    """Check the suffix of a report, so that a mistake is reported before anything is predicted.

    Raises:
        InputError: the suffix is not one of `SUFFIXES`.
    """
    if Path(path).suffix.lower() not in SUFFIXES:
        msg = f"{path}: the name of a report must end in {', '.join(SUFFIXES)}; rename it"
        raise InputError(msg)


def write_report(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a report with one row per case.

    Args:
        path: file to write, see `SUFFIXES`.
        rows: from `predict_cases`.

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
            temporary.write_text(_page(rows, path.resolve().parent), encoding="utf-8", errors="backslashreplace")


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


def _page(rows: Sequence[Mapping[str, Any]], folder: Path) -> str:
    flat = [flat_row(row) for row in rows]
    columns = _columns(flat)
    failed = sum(row["status"] == "failed" for row in rows)
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    lines = []
    for row, cells in zip(rows, flat, strict=True):
        texts = [f"<td{_kind(cells.get(c))}>{_text(cells.get(c, ''))}</td>" for c in columns]
        lines.append(f"<tr><td>{_picture(row, folder)}</td>{''.join(texts)}</tr>")
    body = f"""<h1>Predictions</h1>
<p class="lead">{len(rows)} cases, {failed} failed.</p>
<div class="scroll"><table><thead><tr><th></th>{head}</tr></thead>
<tbody>
{chr(10).join(lines)}
</tbody></table></div>
"""
    return html_page("Predictions", body, "td img { width: 14rem; border-radius: .3rem; }\n")


def _picture(row: Mapping[str, Any], folder: Path) -> str:
    pictures = [file for file in row.get("files", []) if file.endswith("_overlay.png")]
    if not pictures:
        return ""
    source = quote(Path(os.path.relpath(Path(pictures[0]).resolve(), folder)).as_posix(), errors="surrogateescape")
    return f'<a href="{source}"><img loading="lazy" alt="{escape(str(row["case"]))}" src="{source}"></a>'


def _kind(value: Any) -> str:
    return ' class="number"' if isinstance(value, int | float) else ""


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else escape(str(value))
