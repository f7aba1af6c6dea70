"""A page of what is in a data set: the suspicious cases with pictures and reasons, and a sample of the others."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path

from cphloc.data.inspection.check import Report
from cphloc.data.inspection.examine import Examined
from cphloc.files import atomic
from cphloc.inference.html_page import html_page, rendered

MOST_SUSPICIOUS = 300
"""Most cases that are shown with their reasons; the rest is named."""
OTHERS = 200
"""Number of cases without a finding that are shown, spread over the data set."""
_TEMPLATE = Path(__file__).with_name("templates") / "data.html"
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
    suspicious, by_id = report.suspicious, {case.case.id: case for case in report.cases}
    others = [case for case in report.cases if not case.findings]
    body = rendered(
        _TEMPLATE,
        name=report.source.name,
        cases=len(report.cases),
        unreadable=len(report.unreadable),
        facts=list(report.rows),
        kinds=report.kinds.most_common(),
        suspicious=suspicious,
        most=MOST_SUSPICIOUS,
        beside={case.case.id: _beside(case, by_id) for case in suspicious},
        others=len(others),
        shown=others[:: -(-len(others) // OTHERS) or 1],
        jpeg=_jpeg,
    )
    with atomic(path) as temporary:
        page = html_page(f"Data check of {report.source.name}", body, _STYLE)
        temporary.write_text(page, encoding="utf-8", errors="backslashreplace")


def _beside(case: Examined, by_id: Mapping[str, Examined]) -> Examined | None:
    """Return the first case that a reason names, to be shown beside the picture."""
    return next((by_id[other] for finding in case.findings for other in finding.others if other in by_id), None)


def _jpeg(content: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"
