"""``cphloc response``: measure how one patient's lesions change between scans (RECIST, volume, doubling time)."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING

from cphloc.cli.result import Answer, comma_separated, table
from cphloc.errors import InputError

if TYPE_CHECKING:
    from cphloc.metrics.response import Visit


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("entry", metavar="ENTRY", help="an entry that segments in 3-D")
    parser.add_argument("scans", metavar="SCAN", nargs="+", help="two or more scans of one patient, in order of time")
    what = "days from the first scan to each later one, such as 90 or 90,180"
    parser.add_argument("--days", metavar="DAYS", type=comma_separated, required=True, help=what)
    parser.add_argument(
        "--new-lesion", action="store_true", help="state that a new lesion appeared, which is progression in RECIST"
    )
    parser.add_argument("--out", metavar="DIR", help="folder in which to save masks and pictures of every scan")


def run(options: argparse.Namespace) -> Answer:
    """Segment every scan, and measure each class over time."""
    from cphloc.metrics.response import follow_up
    from cphloc.zoo.load import load

    later = len(options.scans) - 1
    if len(options.days) != later or not later:
        msg = f"state one day in --days for each scan after the first: {later} later scans, {len(options.days)} days"
        raise InputError(msg)
    model = load(options.entry)
    if model.recipe.dims != 3:
        msg = f"entry '{options.entry}' is {model.recipe.dims}-D; treatment response is measured on volumes"
        raise InputError(msg)
    found = [model.predict(scan) for scan in options.scans]
    if found[0].masks is None:
        msg = f"entry '{options.entry}' gives no masks; treatment response is measured on masks"
        raise InputError(msg)
    grids = [one.image.geometry for one in found]
    days = [0.0, *options.days]
    visits = {
        name: follow_up([one.masks == number for one in found], grids, days, options.new_lesion)
        for number, name in model.classes.items()
    }
    if options.out is not None:
        for one in found:
            one.save(options.out)
    text = "\n\n".join(_table(name, options.scans, course) for name, course in visits.items())
    return Answer(text, {name: [asdict(visit) for visit in course] for name, course in visits.items()})


def _table(name: str, scans: list[str], visits: list[Visit]) -> str:
    head = (name, "days", "mL", "change", "diameters mm", "change", "RECIST", "doubling time, days")
    first = visits[0]
    rows = [
        (
            scan,
            f"{visit.days:g}",
            f"{visit.volume_ml:.2f}",
            _change(visit.volume_ml, first.volume_ml),
            f"{visit.diameters_mm:.1f}",
            _change(visit.diameters_mm, first.diameters_mm),
            visit.category or "-",
            "-" if visit.doubling_time_days != visit.doubling_time_days else f"{visit.doubling_time_days:.0f}",
        )
        for scan, visit in zip(scans, visits, strict=True)
    ]
    return table([head, *rows])


def _change(now: float, first: float) -> str:
    return "-" if now is first or not first else f"{100 * (now / first - 1):+.0f} %"
