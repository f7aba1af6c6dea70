"""``make real-files``: read the files of pydicom, pydicom-data and nibabel, and files that other tools write.

Each file is equal to what the reference reader finds, refused with a reason, or wrong; writes ``RESULTS.md`` and ends
with exit code 1 if one is wrong.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib import import_module, metadata
from pathlib import Path

from . import written
from .compare import Row, compare_image

RESULTS = Path(__file__).with_name("RESULTS.md")
PACKAGES = {
    "pydicom": ("pydicom.data", ("test_files",)),
    "pydicom-data": ("data_store", ("data",)),
    "nibabel": ("nibabel", ("tests/data", "nicom/tests/data")),
}
"""Package -> module, and folders with its test files."""
TEXTS = (".py", ".txt", ".rst", ".md", ".m", ".json", ".dump", ".icc", ".pyc")
"""Suffixes of files that describe others."""
TOOLS = {
    "SimpleITK": written.by_simpleitk,
    "rt-utils": written.by_rt_utils,
    "highdicom": written.by_highdicom,
    "dcmqi": written.by_dcmqi,
}


def package_files(package: str) -> Iterator[tuple[Path, str]]:
    """Test files of a package, with their names relative to it."""
    module, folders = PACKAGES[package]
    root = Path(import_module(module).__path__[0])
    for folder in folders:
        for path in sorted((root / folder).rglob("*")):
            if path.is_file() and path.suffix.lower() not in TEXTS and "__pycache__" not in path.parts:
                yield path, path.relative_to(root / folder).as_posix()


def compared() -> Iterator[Row]:
    """Compare everything."""
    for package in PACKAGES:
        for path, name in package_files(package):
            yield compare_image(package, path, name)
    for write in TOOLS.values():
        with tempfile.TemporaryDirectory() as folder:
            yield from write(Path(folder))


def report(rows: Sequence[Row]) -> str:
    """The table as Markdown: totals, then every file that is not equal, then those that are."""
    lines = [
        "# Real files",
        "",
        "Made by `make real-files`: what cphloc reads, compared with the reference reader.",
        "",
    ]
    versions = ", ".join(_version(name) for name in (*PACKAGES, *TOOLS))
    lines += [f"Versions: {versions}.", "", "| source | equal | refused with reason | wrong |", "|---|---:|---:|---:|"]
    for group in dict.fromkeys(row.group for row in rows):
        counts = Counter(row.verdict for row in rows if row.group == group)
        lines.append(f"| {group} | {counts['equal']} | {counts['refused']} | {counts['wrong']} |")
    for verdict in ("wrong", "refused", "equal"):
        chosen = [row for row in rows if row.verdict == verdict]
        lines += [
            "",
            f"## {verdict.capitalize()}: {len(chosen)}",
            "",
            "| source | file | reader | |",
            "|---|---|---|---|",
        ]
        lines += [f"| {r.group} | {r.file} | {r.reader} | {r.detail.replace('|', '/')} |" for r in chosen]
    return "\n".join(lines) + "\n"


def _version(package: str) -> str:
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return package


def main() -> int:
    """Compare, print the totals, write the table."""
    logging.disable(logging.ERROR)
    warnings.simplefilter("ignore")
    rows = list(compared())
    text = report(rows)
    RESULTS.write_text(text, encoding="utf-8")
    print(text.partition("## Refused")[0])
    return int(any(row.verdict == "wrong" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
