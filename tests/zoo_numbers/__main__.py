"""``make zoo-numbers``: measure every entry of the shipped zoo again, and compare with its card.

Each entry is evaluated on the split of its card, from the data sets in ``CPHLOC_DATA``. Finished entries are kept by
the hash of their ``entry.yaml``, so that the comparison can be stopped and goes on. Writes ``tests/benchmarks/ZOO.md``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

from cphloc import paths
from cphloc.errors import CphlocError
from cphloc.files import atomic
from cphloc.publishing.verify import Check, verify
from cphloc.zoo.entries import Listing, list_entries

from . import page

HERE = Path(__file__).parent
WORK = HERE.parents[1] / ".zoo-numbers"


def main(argv: list[str] | None = None) -> int:
    """Measure what is missing, then write the page; returns 1 where a number differs from its card."""
    parser = argparse.ArgumentParser(prog="python -m tests.zoo_numbers", description=__doc__)
    parser.add_argument("names", nargs="*", help="entries; by default every one that 'cphloc list zoo' lists")
    parser.add_argument("--zoo", type=Path, default=paths.shipped("zoo"), help="zoo folder")
    parser.add_argument("--work", type=Path, default=WORK, help="folder of what is measured")
    parser.add_argument("--out", type=Path, default=HERE.parent / "benchmarks" / "ZOO.md", help="page to write")
    options = parser.parse_args(argv)
    listed = list_entries(zoos=[str(options.zoo)])
    found = {}
    for listing in listed:
        wanted = not options.names or listing.name in options.names
        if (measured := measure(listing, options.work, wanted)) is not None:
            found[str(listing)] = measured
            print("\n".join(page.lines(str(listing), measured)), flush=True)
    with atomic(options.out) as temporary:
        temporary.write_text(page.text(found, [str(e) for e in listed if str(e) not in found]), encoding="utf-8")
    return 0 if all(check.right for measured in found.values() for check in measured) else 1


def measure(listing: Listing, work: Path, wanted: bool = True) -> list[Check] | None:
    """Return every check of an entry, as measured before or now; ``None`` where it was not and shall not be."""
    kept = work / f"{listing}-{listing.sha256[:12]}.json"
    if kept.is_file():
        return [Check(**check) for check in json.loads(kept.read_text(encoding="utf-8"))]
    if not wanted:
        return None
    print(f"{time.strftime('%H:%M')} {listing}", flush=True)
    try:
        checks = verify(listing.place, metrics=True)
    except CphlocError as error:  # no data set, most likely: it is not kept, and tried again next time
        return [Check("metrics", str(error), False)]
    with atomic(kept) as temporary:
        temporary.write_text(json.dumps([asdict(check) for check in checks], indent=1), encoding="utf-8")
    return checks


if __name__ == "__main__":
    sys.exit(main())
