"""``cphloc zoo``: index a zoo folder, for listings, for URLs and for the MLflow comparison."""

from __future__ import annotations

import argparse

from cphloc.cli.result import Answer
from cphloc.errors import NotFoundError


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "action", choices=("index",), help="index: write zoo.json, and register every version in MLflow"
    )
    parser.add_argument(
        "zoo", metavar="ZOO", nargs="?", help="zoo folder; default: the first of CPHLOC_ZOO, else the shipped zoo"
    )


def run(options: argparse.Namespace) -> Answer:
    """Write the index, and register in MLflow every version that agrees with itself; exit code 1 where one does not."""
    from cphloc.publishing.agreement import zoo_disagreements
    from cphloc.publishing.publish import zoo_to_write
    from cphloc.publishing.register import register_zoo
    from cphloc.zoo.index import index_zoo

    folder = zoo_to_write(options.zoo)
    if not folder.is_dir():
        msg = f"{folder}: no such folder; give a zoo folder, such as that of cphloc publish --to"
        raise NotFoundError(msg)
    written, wrong = index_zoo(folder), zoo_disagreements(folder)
    versions = register_zoo(folder, wrong)
    text = "\n".join([*versions, f"{len(versions)} versions in {written} and in MLflow; compare them with: cphloc ui"])
    text += "".join(f"\nWRONG  {version}: {what}" for version, what in wrong.items())
    return Answer(text, {"index": str(written), "registered": versions, "wrong": wrong}, exit_code=1 if wrong else 0)
