"""Convert a model card from Markdown to HTML for the zoo page; its texts may come from a stranger."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token


MAX_CHARACTERS = 200_000
"""Longer cards are shown as plain text: some nestings of Markdown take a second per 100,000 characters."""


def html_of(markdown: str, base: str) -> str:
    """Convert Markdown to HTML. HTML in it is shown as text, and links lead to the web or below ``base`` only.

    Args:
        markdown: the text.
        base: folder that links are relative to, with a slash at the end.

    >>> html_of("- a **b** & <i>c</i>", "")
    '<ul>\\n<li>a <strong>b</strong> &amp; &lt;i&gt;c&lt;/i&gt;</li>\\n</ul>'
    """
    if len(markdown) > MAX_CHARACTERS:
        return f"<pre>{escape(markdown)}</pre>"
    return _parser().render(markdown, {"base": base}).strip()


@functools.cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False, "xhtmlOut": False, "maxNesting": 10}).enable("table")
    parser.validateLink = _is_safe
    parser.add_render_rule("image", _image)
    parser.add_render_rule("link_open", _link)
    parser.add_render_rule("table_open", lambda *_: '<div class="scroll" tabindex="0"><table>\n')
    parser.add_render_rule("table_close", lambda *_: "</table></div>\n")
    return parser


def _is_safe(url: str) -> bool:
    """Return whether a link leads to the web, or to a file in the folder or below; others stay text."""
    return _is_web(url) or _is_below(url)


def _is_web(url: str) -> bool:
    return url.lower().startswith(("https://", "http://")) and "@" not in urlsplit(url).netloc


def _is_below(url: str) -> bool:
    path = unquote(url)
    outside = path.startswith(("/", "\\")) or any(c in path for c in ":\\?#") or ".." in path.split("/")
    return not outside and path.isprintable()


def _image(renderer: Any, tokens: Sequence[Token], index: int, options: Any, environment: Any) -> str:
    """Show a picture of the folder; of one elsewhere, its text."""
    token = tokens[index]
    source, token.attrs["alt"] = str(token.attrs["src"]), token.content
    if not _is_below(source):
        return f"<em>{renderer.renderInlineAsText(token.children or [], options, environment)}</em>"
    token.attrs |= {"src": environment["base"] + source, "loading": "lazy"}
    return renderer.renderToken(tokens, index, options, environment)


def _link(renderer: Any, tokens: Sequence[Token], index: int, options: Any, environment: Any) -> str:
    target = str(tokens[index].attrs["href"])
    if not _is_web(target):
        tokens[index].attrs["href"] = environment["base"] + target
    return renderer.renderToken(tokens, index, options, environment)
