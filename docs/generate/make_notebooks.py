"""Write and execute the notebooks of the documentation: ``python docs/generate/make_notebooks.py``.

The cells stand in ``notebooks.yaml``, so that a notebook can be reviewed as text; what is stored is executed, without
paths of this machine, warnings and execution times.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
import yaml
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

HERE = Path(__file__).parent
NOTEBOOKS = HERE.parent / "notebooks"
CELLS: dict[str, list[dict[str, str]]] = yaml.safe_load((HERE / "notebooks.yaml").read_text(encoding="utf-8"))
"""Cells of each notebook, in order: ``text`` or ``code``."""


def notebook(name: str) -> NotebookNode:
    """Return a notebook that has not been executed."""
    made: list[Any] = []
    for i, cell in enumerate(CELLS[name]):
        kind, source = next(iter(cell.items()))
        made.append((new_markdown_cell if kind == "text" else new_code_cell)(source.strip(), id=f"cell-{i}"))
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return new_notebook(cells=made, metadata=kernel)


def executed(made: NotebookNode, folder: Path, timeout: int = 600) -> NotebookNode:
    """Execute a notebook in ``folder`` and return it with its outputs, but for what differs from run to run."""
    os.environ["CPHLOC_QUIET"] = "1"  # no bars
    NotebookClient(
        made, timeout=timeout, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    for cell in made.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = [_clean(o, folder) for o in cell.outputs if o.get("name") != "stderr"]
    made.metadata.pop("language_info", None)
    return made


def _clean(output: NotebookNode, folder: Path) -> NotebookNode:
    """Remove paths of this machine from the text of an output."""
    if "text" in output:
        output.text = output.text.replace(f"{folder}/", "").replace(str(Path.home()), "~")
    for kind in ("text/plain", "text/html"):
        if kind in output.get("data", {}):
            output.data[kind] = output.data[kind].replace(f"{folder}/", "").replace(str(Path.home()), "~")
    return output


def main(names: list[str]) -> None:
    """Write the notebooks of these names, or all."""
    for name in names or CELLS:
        with tempfile.TemporaryDirectory() as folder:
            made = executed(notebook(name), Path(folder).resolve())
        nbformat.write(made, NOTEBOOKS / f"{name}.ipynb")


if __name__ == "__main__":
    main(sys.argv[1:])
