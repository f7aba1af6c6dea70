"""HTML pages that work without network access, and in which no text of a stranger can become code."""

from __future__ import annotations

import base64
import functools
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment

_TEMPLATES = Path(__file__).with_name("templates")
_POLICY = "base-uri 'none'; form-action 'none'"


def html_page(title: str, body: str, style: str = "", script: str = "", module: bool = False, allowed: str = "") -> str:
    """Return an HTML page whose Content-Security-Policy allows its own style and script, and pictures beside it.

    Should a text ever get into the page unescaped, a browser still runs none of it and loads nothing from elsewhere.

    Args:
        title: title of the page, as text.
        body: HTML inside ``<main>``, as `rendered` returns it.
        style: CSS after that of all pages.
        script: JavaScript.
        module: whether the script is a module.
        allowed: further sources of scripts in the policy, such as ``'wasm-unsafe-eval'``.
    """
    from markupsafe import Markup

    style = f"\n{stylesheet()}{style}"
    script = script and f"\n{script}".replace("</script", "<\\/script")
    scripts = f"{_hash(script)} {allowed}".strip()
    sources = {"default": "'none'", "style": _hash(style), "script": scripts, "img": "'self' file: data:"}
    policy = "; ".join([*(f"{kind}-src {source}" for kind, source in sources.items()), _POLICY])
    texts = {"style": Markup(style), "script": Markup(script), "body": Markup(body), "policy": Markup(policy)}
    return rendered(_TEMPLATES / "page.html", title=title, module=module, **texts)


def rendered(template: Path, **values: Any) -> str:
    """Fill a Jinja template; every text is escaped, unless it is `markupsafe.Markup`."""
    return _environment(template.parent).get_template(template.name).render(**values)


@functools.cache
def _environment(folder: Path) -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(folder)
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def stylesheet() -> str:
    """Return the CSS of all pages."""
    return Path(__file__).with_name("page.css").read_text(encoding="utf-8")


def _hash(content: str) -> str:
    """Source that allows the inline content alone; ``'none'`` for empty content."""
    if not content:
        return "'none'"
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
