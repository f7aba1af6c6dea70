"""``cphloc response``: measure how one patient's lesions change between scans (RECIST, volume, doubling time)."""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from cphloc.cli.result import Answer, comma_separated, table
from cphloc.data.io.read import read_scan
from cphloc.errors import InputError
from cphloc.inference.batch_cases import Case, cases_of, uniquely_named
from cphloc.structures.merging import of_part
from cphloc.structures.units import assumed_units
from cphloc.structures.volume import Scan

if TYPE_CHECKING:
    from cphloc.inference.localization import Localization
    from cphloc.metrics.response import Visit


_SCANS = (
    "two or more scans of one patient: image files, DICOM folders (folder#SeriesInstanceUID where one holds several "
    "series), or ct=FILE,pet=FILE for several channels"
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("entry", metavar="ENTRY", help="an entry that segments in 3-D")
    parser.add_argument("scans", metavar="SCAN", nargs="+", help=_SCANS)
    what = "days from the first scan to each later one, such as 90 or 90,180; by default from the dates in the files"
    parser.add_argument("--days", metavar="DAYS", type=comma_separated, help=what)
    parser.add_argument(
        "--new-lesion", action="store_true", help="state that a new lesion appeared, which is progression in RECIST"
    )
    parser.add_argument("--out", metavar="DIR", help="folder in which to save masks and pictures of every scan")


def run(options: argparse.Namespace) -> Answer:
    """Segment every scan, and measure each class over time."""
    from cphloc.metrics.response import follow_up
    from cphloc.metrics.timeline import timeline
    from cphloc.zoo.load import load

    cases = uniquely_named([_case(text) for text in options.scans])
    if len(cases) < 2 and options.days is None:
        msg = "treatment response needs two or more scans of one patient; name each later scan too"
        raise InputError(msg)
    scans = [_scan(case) for case in cases]
    order, days = timeline(options.scans, scans, options.days)
    cases, scans = [cases[k] for k in order], [scans[k] for k in order]
    # one runtime for all scans: another one that takes over in between would change voxels at the border
    model = load(options.entry, backend="torch")
    if model.recipe.dims != 3:
        msg = f"entry '{options.entry}' is {model.recipe.dims}-D; treatment response is measured on volumes"
        raise InputError(msg)
    found = [replace(model.predict(case.source), case=case.name) for case in cases]
    if found[0].masks is None:
        msg = f"entry '{options.entry}' gives no masks; treatment response is measured on masks"
        raise InputError(msg)
    grids = [one.image.geometry for one in found]
    visits = {
        name: follow_up([one.masks == number for one in found], grids, days, options.new_lesion)
        for number, name in of_part(model.classes, "mask").items()
    }
    if options.out is not None:
        for one in found:
            one.save(options.out)
    names = [options.scans[k] for k in order]
    tables = [_table(name, names, course) for name, course in visits.items()]
    notes = [f"{name}: {note}" for name, one in zip(names, found, strict=True) for note in _notes(one)]
    about = [
        {"scan": name, "date": scan.date and scan.date.isoformat(), "warnings": list(one.warnings)}
        for name, scan, one in zip(names, scans, found, strict=True)
    ]
    facts = {
        name: [{**of_scan, **asdict(visit)} for of_scan, visit in zip(about, course, strict=True)]
        for name, course in visits.items()
    }
    return Answer("\n\n".join([*tables, *(["\n".join(notes)] if notes else [])]), facts)


def _case(text: str) -> Case:
    """The one case that an argument refers to."""
    cases = cases_of([text])
    if len(cases) > 1:
        what = "name each by its own file, folder or folder#SeriesInstanceUID, in order of time"
        msg = f"{text}: holds {len(cases)} scans; {what}"
        raise InputError(msg)
    return cases[0]


def _scan(case: Case) -> Scan:
    """What the files of a case state; of several channels, the first that states anything."""
    return next((scan for file in case.files if (scan := read_scan(file)) != Scan()), Scan())


def _notes(found: Localization) -> list[str]:
    """Warnings about a scan, and the units that were taken from the entry."""
    assumed = assumed_units(found.inputs)
    return [*(f"warning: {warning}" for warning in found.warnings), *([assumed] if assumed else [])]


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
