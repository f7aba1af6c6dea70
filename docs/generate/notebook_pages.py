"""Pages of the executed notebooks: text, code, and outputs as they were stored."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"


def pages() -> Iterator[tuple[str, str | bytes]]:
    """Yield a page per notebook, the pictures in its outputs, and the notebook itself for download."""
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        lines = []
        for i, cell in enumerate(cells):
            for part in _cell(cell, f"{path.stem}-{i}"):
                if isinstance(part, str):
                    lines.append(part)
                else:
                    yield f"notebooks/{part[0]}", part[1]
        lines.insert(1, f"[Download this notebook]({path.name})\n")
        yield f"notebooks/{path.stem}.md", "\n".join(lines)


def _cell(cell: dict[str, Any], name: str) -> Iterator[str | tuple[str, bytes]]:
    """Yield Markdown, and each picture as its file name and content."""
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        yield f"{source}\n"
        return
    yield f"```python\n{source}\n```\n"
    for i, output in enumerate(cell["outputs"]):
        data = output.get("data", {})
        if "image/png" in data:
            file = f"{name}-{i}.png"
            yield file, base64.b64decode("".join(data["image/png"]))
            yield f"![output of the cell above]({file})\n"
        elif "text/html" in data:
            yield f'<div class="output">{"".join(data["text/html"])}</div>\n'
        elif text := "".join(output.get("text", data.get("text/plain", ""))):
            yield f"```text\n{text.rstrip()}\n```\n"
