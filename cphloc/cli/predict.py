"""``cphloc predict``: localize in images, results in each image's own geometry."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, get_args

from cphloc.cli.result import Answer
from cphloc.inference.backend import BackendName

_INPUTS = "files, DICOM folders, folders of these, patterns, a .csv list; channels as ct=A,pet=B"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    entry = "an entry such as unet3d-hippocampus@^1, or its folder; several with commas are averaged"
    parser.add_argument("entry", metavar="ENTRY", help=entry)
    parser.add_argument("inputs", metavar="INPUT", nargs="+", help=_INPUTS)
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the results; goes on where it stopped")
    parser.add_argument("--spacing", metavar="MM", type=_spacing, help="voxel size of pictures and arrays: 3,1,1")
    parser.add_argument("--tta", action="store_true", help="average over mirrored views")
    parser.add_argument("--uncertainty", action="store_true", help="also save how unsure the mask is")
    parser.add_argument("--overlap", type=float, default=0.5, metavar="SHARE", help="of neighbouring windows; 0.5")
    parser.add_argument("--keep-air", action="store_true", help="compute windows of nothing but air too (CT)")
    parser.add_argument("--backend", choices=get_args(BackendName), default="auto", help="what computes; auto")
    where = "in this process, or on a Ray cluster (RAY_ADDRESS, or one started here); local"
    parser.add_argument("--engine", choices=("local", "ray"), default="local", help=where)
    parser.add_argument("--redo", action="store_true", help="predict finished cases again")
    parser.add_argument("--report", metavar="FILE", help="a row a case: .csv, .json or .html")


def run(options: argparse.Namespace) -> Answer:
    """Predict each input; one that fails is named and does not stop the others."""
    from cphloc.inference.batch import cases_of
    from cphloc.inference.batch_report import check_suffix, write_report

    if options.report:
        check_suffix(options.report)
    rows = list(_rows(options, cases_of(options.inputs)))
    if options.report:
        write_report(options.report, rows)
    lines = [line for row in rows for line in _lines(row)]
    return Answer("\n".join([*lines, *_computed_by(rows)]), rows, _exit_code(rows))


def _rows(options: argparse.Namespace, cases: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """One row a case, here with a progress bar or from the cluster."""
    names: list[str] = options.entry.split(",")
    how = {"tta": options.tta, "overlap": options.overlap, "skip_air": not options.keep_air}
    how["uncertainty"] = options.uncertainty
    from cphloc.zoo.load import load

    if options.engine != "local":
        from cphloc.inference.batch_cluster import Job, predict_over

        made = tuple(names), options.backend
        jobs = [Job(*made, case, options.out, options.spacing, options.redo, how) for case in cases]
        return predict_over(jobs, options.engine, load)
    from cphloc.inference.batch import predict_cases

    model = load(names if len(names) > 1 else names[0], backend=options.backend)
    return predict_cases(model, cases, options.out, options.spacing, options.redo, _bar, **how)


def _bar(cases: Iterable[Any]) -> Iterable[Any]:
    """Iterate over cases behind a progress bar on the error stream."""
    from rich.console import Console
    from rich.progress import track

    return track(cases, "predicting", console=Console(stderr=True), transient=True)


def _exit_code(rows: Sequence[Mapping[str, Any]]) -> int:
    """2 where every input was wrong, 1 where any case failed."""
    failed = [row for row in rows if row["status"] == "failed"]
    wrong = len(failed) == len(rows) and all(row.get("wrong_input") for row in failed)
    return 0 if not failed else 2 if wrong else 1


def _lines(row: Mapping[str, Any]) -> Iterator[str]:
    if row["status"] == "failed":
        yield f"error: {row['error']}"
        return
    sizes = [
        f"{name} {', '.join(f'{key} {value:.4g}' for key, value in measured.items())}"
        for name, measured in row.get("measurements", {}).items()
    ]
    found = [f"{len(row['boxes'])} boxes"] if "boxes" in row else []
    likely = [f"{name} p = {p:.3f}" for name, p in row.get("probabilities", {}).items()]
    kept = " (finished before)" if row["status"] == "kept" else ""
    yield f"{row['case']}: {'; '.join([*sizes, *found, *likely])}{kept}"
    yield from (f"  {file}" for file in row["files"])


def _computed_by(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Names a runtime other than torch, and how far it was from torch at most."""
    found = {made["backend"]: made["difference"] for row in rows if (made := row.get("computed")) is not None}
    for backend, difference in found.items():
        if backend != "torch":
            yield f"computed by {backend}, at most {difference:.1e} from torch"


def _spacing(text: str) -> tuple[float, ...]:
    return tuple(float(number) for number in text.split(","))
