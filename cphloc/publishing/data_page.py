"""A page of what is in a data set: the suspicious cases with pictures and reasons, and a sample of the others."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from html import escape
from pathlib import Path

from cphloc.data.inspection.check import Report
from cphloc.data.inspection.examine import Examined
from cphloc.files import atomic
from cphloc.inference.html_page import html_page

MOST_SUSPICIOUS = 300
"""Most cases that are shown with their reasons; the rest is named."""
OTHERS = 200
"""Number of cases without a finding that are shown, spread over the data set."""
_STYLE = """.cases img, .others img { max-width: 100%; background: #000; border-radius: .3rem; display: block; }
.cases td:first-child { width: 26rem; }
.others { display: flex; flex-wrap: wrap; gap: .8rem; }
.others figure { margin: 0; }
.cases figure { margin: 0 .5rem .3rem 0; display: inline-block; }
"""


def write_page(path: Path, report: Report) -> None:
    """Write the page, which holds its pictures.

    Args:
        path: file to write.
        report: from `cphloc.data.inspection.check.check_data`.
    """
    suspicious = report.suspicious
    parts = [f"<h1>{escape(report.source.name)}</h1>", f'<p class="lead">{_lead(report)}</p>']
    parts += ["<h2>What is in it</h2>", _table(report.rows)]
    if suspicious:
        parts += [
            "<h2>Reasons</h2>",
            _table([("reason", "cases"), *((kind, str(n)) for kind, n in report.kinds.most_common())]),
        ]
        parts += ["<h2>Suspicious cases, most suspicious first</h2>", _cases(suspicious[:MOST_SUSPICIOUS], report)]
    if len(suspicious) > MOST_SUSPICIOUS:
        names = ", ".join(escape(case.case.id) for case in suspicious[MOST_SUSPICIOUS:])
        parts.append(f"<p>Further suspicious cases, without pictures: {names}</p>")
    others = [case for case in report.cases if not case.findings]
    shown = others[:: -(-len(others) // OTHERS) or 1]
    if shown:
        parts += [f"<h2>Others: {len(shown)} of {len(others)}</h2>", _others(shown)]
    with atomic(path) as temporary:
        page = html_page(f"Data check of {report.source.name}", "\n".join(parts), _STYLE)
        temporary.write_text(page, encoding="utf-8", errors="backslashreplace")


def _lead(report: Report) -> str:
    bad = len(report.unreadable)
    return (
        f"{len(report.cases)} cases, {len(report.suspicious)} suspicious, {bad} cannot be read. A reason is a hint to "
        "look, not a verdict: an unusual patient is no fault."
    )


def _table(rows: Iterable[tuple[str, ...]]) -> str:
    lines = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows)
    return f'<div class="scroll" tabindex="0"><table>{"".join(f"<tr>{line}</tr>" for line in lines)}</table></div>'


def _cases(cases: Iterable[Examined], report: Report) -> str:
    """Rows with picture, name and reasons; below the picture that of the first case that a reason names."""
    by_id = {case.case.id: case for case in report.cases}
    lines = []
    for case in cases:
        named = [by_id[other] for finding in case.findings for other in finding.others if other in by_id]
        pictures = "".join(map(_figure, [case, *named[:1]])) if named else _picture(case)
        reasons = "".join(f"<li>{escape(finding.text)}</li>" for finding in case.findings)
        patient = "" if case.case.patient == case.case.id else f", patient {case.case.patient}"
        name = f"<b>{escape(case.case.id)}</b><br>{escape(case.split + patient)}"
        lines.append(f"<tr><td>{pictures}</td><td>{name}</td><td><ul>{reasons}</ul></td></tr>")
    return f'<div class="scroll cases" tabindex="0"><table>{"".join(lines)}</table></div>'


def _others(cases: Iterable[Examined]) -> str:
    return f'<div class="others">{"".join(map(_figure, cases))}</div>'


def _figure(case: Examined) -> str:
    return f'<figure>{_picture(case)}<figcaption class="small">{escape(case.case.id)}</figcaption></figure>'


def _picture(case: Examined) -> str:
    if not case.thumbnail:
        return ""
    content = base64.b64encode(case.thumbnail).decode()
    return f'<img loading="lazy" alt="{escape(case.case.id)}" src="data:image/jpeg;base64,{content}">'
