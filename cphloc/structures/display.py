"""How objects present themselves: a few lines as text, a table and a picture in a notebook, a table in a terminal."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType

MAX_LINES = 10
"""Lines of a text representation, the title included."""

MAX_WIDTH = 160
"""Characters of a line; longer ones are shortened."""

_STYLE = "text-align:left;vertical-align:top;padding:2px 12px 2px 0"


def _no_picture() -> str:
    return ""


@dataclass(frozen=True)
class Display:
    """What an object shows of itself.

    Args:
        title: one line: what the object is.
        rows: label and value of each line below it; rows with an empty value are left out.
        picture: returns the HTML of a picture, or an empty text; called in notebooks only.
    """

    title: str
    rows: Sequence[tuple[str, str]]
    picture: Callable[[], str] = _no_picture

    @property
    def shown(self) -> list[tuple[str, str]]:
        """The rows that have a value, at most as many as `MAX_LINES` allows; the last states how many are left out."""
        stated = [(label, value) for label, value in self.rows if value]
        room = MAX_LINES - 1
        return stated if len(stated) <= room else [*stated[: room - 1], ("", f"and {len(stated) - room + 1} more")]

    def text(self) -> str:
        """Format as text with one row a line."""
        width = max((len(label) for label, _ in self.shown), default=0)
        lines = [self.title, *(f"  {label:{width}}  {value}" for label, value in self.shown)]
        return "\n".join(_shortened(line) for line in lines)

    def html(self) -> str:
        """Format as HTML: the title, the picture, and all rows as a table."""
        rows = "".join(
            f'<tr><th style="{_STYLE}">{escape(label)}</th><td style="{_STYLE}">{escape(value)}</td></tr>'
            for label, value in self.rows
            if value
        )
        return f"<div><p><b>{escape(self.title)}</b></p>{self.picture()}<table>{rows}</table></div>"

    def terminal(self) -> RenderableType:
        """Format as a table of rich, for a terminal."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(title=Text(self.title), title_justify="left", box=box.SIMPLE, show_header=False)
        for label, value in self.shown:
            table.add_row(Text(label, style="bold"), Text(value))
        return table


class Displayed:
    """Base of objects with a short text representation, a page in notebooks, and a table in rich's consoles."""

    def _display(self) -> Display:
        """Return what the object shows of itself."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return self._display().text()

    def _repr_html_(self) -> str:
        """Return the object as HTML, which notebooks show."""
        return self._display().html()

    def __rich__(self) -> RenderableType:
        """Return the object as a table, which rich's consoles show."""
        return self._display().terminal()


def _shortened(line: str) -> str:
    """Cut one line to `MAX_WIDTH` characters; line breaks in it become spaces."""
    line = " ".join(line.splitlines())
    return line if len(line) <= MAX_WIDTH else f"{line[: MAX_WIDTH - 1].rstrip()}…"


def listed(names: Sequence[str], most: int = 6) -> str:
    """Join names with commas; beyond ``most``, state how many there are.

    >>> listed(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    rest = len(names) - most
    return ", ".join(names) if rest <= 0 else f"{', '.join(names[:most])} and {rest} more"


def with_interval(found: Mapping[str, Any], form: str = ".3f") -> str:
    """Format a metric with the ends of its interval; ``-`` where no case defines it.

    >>> with_interval({"value": 0.5, "low": 0.4, "high": 0.61})
    '0.500 [0.400, 0.610]'
    """
    if found["value"] is None:
        return "-"
    span = "" if found.get("low") is None else f" [{found['low']:{form}}, {found['high']:{form}}]"
    return f"{found['value']:{form}}{span}"


def image_html(picture: bytes | Path, alt: str) -> str:
    """Return an ``<img>`` that contains a PNG picture; empty where its file does not exist.

    Args:
        picture: content of the PNG file, or its path.
        alt: what the picture shows.
    """
    if isinstance(picture, Path):
        if not picture.is_file():
            return ""
        picture = picture.read_bytes()
    encoded = base64.b64encode(picture).decode()
    return f'<img style="max-width:100%" alt="{escape(alt)}" src="data:image/png;base64,{encoded}">'


def chart_html(metrics: Mapping[str, Mapping[str, Any]], baseline: Mapping[str, Mapping[str, Any]]) -> str:
    """Draw metrics in [0, 1] with their intervals, and those of a baseline in grey, as SVG; empty without any.

    Args:
        metrics: by name, ``value`` and, where known, ``low`` and ``high``.
        baseline: the same of the baseline; other names are ignored.
    """
    drawn = {name: found for name, found in metrics.items() if _is_share(found)}
    rows = []
    for place, (name, found) in enumerate(drawn.items()):
        y = 18 * place + 12
        rows.append(f'<text x="170" y="{y + 4}" text-anchor="end" font-size="12">{escape(name)}</text>')
        rows += [_mark(baseline[name], y, "#999999")] if _is_share(baseline.get(name, {})) else []
        rows.append(_mark(found, y, "#ff5a36"))
    if not rows:
        return ""
    axis = f'<path d="M180 2V{18 * len(drawn) + 4}H480" stroke="#999999" fill="none"/>'
    ends = "".join(
        f'<text x="{x}" y="{18 * len(drawn) + 18}" text-anchor="middle" font-size="11">{text}</text>'
        for x, text in ((180, "0"), (330, "0.5"), (480, "1"))
    )
    size = f'width="500" height="{18 * len(drawn) + 24}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} fill="currentColor">{axis}{"".join(rows)}{ends}</svg>'


def _is_share(found: Mapping[str, Any]) -> bool:
    stated = [found.get(key) for key in ("value", "low", "high")]
    return stated[0] is not None and all(value is None or 0 <= value <= 1 for value in stated)


def _mark(found: Mapping[str, Any], y: int, colour: str) -> str:
    """Draw a point at the value and a line over its interval."""
    at = {key: 180 + 300 * found[key] for key in ("value", "low", "high") if found.get(key) is not None}
    line = f"M{at['low']:.1f} {y}H{at['high']:.1f}" if "low" in at else ""
    point = f'<circle cx="{at["value"]:.1f}" cy="{y}" r="4" fill="{colour}"/>'
    return f'<path d="{line}" stroke="{colour}" stroke-width="2"/>{point}'
