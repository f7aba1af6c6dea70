"""HTML pages that work without network access, and in which no text of a stranger can become code."""

from __future__ import annotations

import base64
import hashlib
from html import escape
from pathlib import Path

_POLICY = "base-uri 'none'; form-action 'none'"


def html_page(title: str, body: str, style: str = "", script: str = "") -> str:
    """Return an HTML page whose Content-Security-Policy allows its own style and script, and pictures beside it.

    Should a text ever get into the page unescaped, a browser still runs none of it and loads nothing from elsewhere.

    Args:
        title: title of the page, as text.
        body: HTML inside ``<body>``.
        style: CSS after that of all pages.
        script: JavaScript.
    """
    style = f"\n{stylesheet()}{style}"
    script = f"\n{script}" if script else ""
    sources = {"default": "'none'", "style": _hash(style), "script": _hash(script), "img": "'self' file: data:"}
    policy = "; ".join([*(f"{kind}-src {source}" for kind, source in sources.items()), _POLICY])
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="referrer" content="no-referrer">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{escape(title)}</title>
<style>{style}</style>
</head>
<body>
{body}{script and f"<script>{script}</script>"}
</body>
</html>
"""


def stylesheet() -> str:
    """Return the CSS of all pages."""
    return Path(__file__).with_name("page.css").read_text(encoding="utf-8")


def _hash(content: str) -> str:
    """Source that allows the inline content alone; ``'none'`` for empty content."""
    if not content:
        return "'none'"
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
