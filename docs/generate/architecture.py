"""The architecture in one picture: the packages in their layers, from the table that tests check imports against."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).parent.parent.parent
PACKAGE = ROOT / "cphloc"
_WIDTH, _HEIGHT, _GAP = 1060, 62, 10
_COLOURS = ("#e6f2f1", "#f4f6f8")


def pages() -> Iterator[tuple[str, str]]:
    """Yield the picture."""
    yield "architecture.svg", picture()


def layers() -> list[tuple[str, ...]]:
    """Return the packages of each layer, from the bottom to the top, as ``tests/test_architecture.py`` states them."""
    tree = ast.parse((ROOT / "tests" / "test_architecture.py").read_text(encoding="utf-8"))
    stated = next(n for n in tree.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "LAYERS")
    return ast.literal_eval(stated.value)


def purpose(package: str) -> str:
    """Return the first sentence of the docstring of a package or module."""
    folder = PACKAGE / package
    path = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split()).split(". ")[0].rstrip(".")


def picture() -> str:
    """Draw one row per layer, the highest first, and a box per package with what it is for."""
    rows = list(reversed(layers()))
    height = len(rows) * (_HEIGHT + _GAP) + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif">',
        "<title>Packages of cphloc in layers; a package imports only packages of lower rows</title>",
    ]
    for i, packages in enumerate(rows):
        width = (_WIDTH - _GAP * (len(packages) + 1)) / len(packages)
        for j, package in enumerate(packages):
            parts += _box(package, _GAP + j * (width + _GAP), _GAP + i * (_HEIGHT + _GAP), width, _COLOURS[i % 2])
    foot = "A package imports only packages of lower rows; neither packages nor files import one another in a circle."
    parts.append(f'<text x="{_GAP}" y="{height - 8}" font-size="13" fill="#444">{foot}</text>')
    return "\n".join([*parts, "</svg>"])


def _box(package: str, x: float, y: float, width: float, colour: str) -> Iterator[str]:
    frame = f'x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{_HEIGHT}" rx="6"'
    yield f'<rect {frame} fill="{colour}" stroke="#00796b"/>'
    yield f'<text x="{x + 10:.0f}" y="{y + 20:.0f}" font-size="15" font-weight="bold" fill="#004d40">{package}</text>'
    for n, line in enumerate(_lines(purpose(package), int(width / 6.3) - 3)[:2]):
        yield f'<text x="{x + 10:.0f}" y="{y + 38 + 16 * n:.0f}" font-size="12" fill="#333">{escape(line)}</text>'


def _lines(text: str, width: int) -> list[str]:
    """Break a text into lines; what two lines cannot hold is cut off with an ellipsis."""
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + len(word) + 1 > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines if len(lines) <= 2 else [lines[0], f"{lines[1][: width - 3].rstrip()} ..."]
