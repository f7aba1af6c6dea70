"""``cphloc audit``: prove that an entry or a recipe holds no code."""

from __future__ import annotations

import argparse

from cphloc.cli.result import Answer, table


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "source", metavar="ENTRY-or-RECIPE", help="an entry, a recipe file, or the name of a shipped recipe"
    )
    bill = "also write the entry's bill of materials (SBOM) to this file, in CycloneDX 1.6 (JSON)"
    parser.add_argument("--sbom", metavar="FILE", help=bill)


def run(options: argparse.Namespace) -> Answer:
    """List every component and file hash; exit code 1 where something is not plain data."""
    from cphloc.publishing.audit import audit, write_bill

    if options.sbom:
        write_bill(options.source, options.sbom)
    lines = audit(options.source)
    rows = [("ok" if line.safe else "UNSAFE", line.kind, line.name, line.what) for line in lines]
    return Answer(table(rows), [vars(line) for line in lines], exit_code=0 if all(line.safe for line in lines) else 1)
