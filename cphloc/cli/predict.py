"""``cphloc predict``: localize in images, results in each image's own geometry."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from cphloc.cli.result import Answer, comma_separated
from cphloc.errors import counted
from cphloc.inference.backend import BackendName
from cphloc.progress import track
from cphloc.structures.units import assumed_units, units_by_channel

_INPUTS = (
    "image files, DICOM folders (folder#SeriesInstanceUID for one series), folders of these, patterns such as "
    "'scans/*.nii.gz', or a .csv file with one row per case (a column image, or one per channel); several channels of "
    "one case as ct=FILE,pet=FILE"
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options, those of the same purpose together."""
    entry = "an entry such as unet3d-hippocampus@^1, or a finished run (its folder); several, with commas, are averaged"
    parser.add_argument("entry", metavar="ENTRY-or-RUN", help=entry)
    parser.add_argument("inputs", metavar="INPUT", nargs="+", help=_INPUTS)
    out = "folder for the results; cases that are finished there are not predicted again"
    parser.add_argument("--out", required=True, metavar="DIR", help=out)
    parser.add_argument("--redo", action="store_true", help="predict finished cases again and replace their results")
    parser.add_argument(
        "--report",
        metavar="FILE",
        help="also write a report with one row per case; .csv, .json or .html, in which 3-D results can be turned and "
        "windowed where the extra 'view' is installed",
    )
    _of_images(parser.add_argument_group("what the images are"))
    _of_results(parser.add_argument_group("what is returned"))
    _of_computation(parser.add_argument_group("how it is computed"))


def _of_images(group: argparse._ArgumentGroup) -> None:
    spacing = "voxel size in mm of files that state none, in array order, such as 3,1,1"
    group.add_argument("--spacing", metavar="MM", type=comma_separated, help=spacing)
    unit = "unit of a channel whose files state none, where it is not that of the entry, such as pet=SUV; repeatable"
    group.add_argument("--unit", metavar="CHANNEL=UNIT", action="append", default=[], help=unit)
    strict = "refuse images that are unlike what the entry was trained on, instead of a warning"
    group.add_argument("--strict", action="store_true", help=strict)


def _of_results(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--threshold",
        type=float,
        metavar="T",
        help="least score of a box and least probability of an object in a mask, from 0 to 1; default: that of the "
        "entry, chosen on validation cases; an entry without one returns all boxes and the most probable classes",
    )
    group.add_argument(
        "--no-postprocess",
        action="store_true",
        help="keep all that the masks outline, also what the entry removes because that gained on its validation cases "
        "(a class of low label probability, all components but the largest, or small ones)",
    )
    group.add_argument("--uncertainty", action="store_true", help="also save a map of the uncertainty of every voxel")
    group.add_argument(
        "--tta",
        action=argparse.BooleanOptionalAction,
        help="test-time augmentation: average the predictions of mirrored images; default: what gained on the entry's "
        "validation cases",
    )


def _of_computation(group: argparse._ArgumentGroup) -> None:
    overlap = (
        "overlap of neighbouring windows, from 0 to below 1; default 0.5, of imported weights as in their training"
    )
    group.add_argument("--overlap", type=float, metavar="SHARE", help=overlap)
    group.add_argument(
        "--window-batch",
        type=int,
        default=1,
        metavar="N",
        help="windows that the network computes at once; its memory grows by this factor; default 1",
    )
    group.add_argument("--keep-air", action="store_true", help="for CT: also compute windows that hold only air")
    group.add_argument(
        "--backend",
        choices=get_args(BackendName),
        default="auto",
        help="runtime of the network; default auto: the fastest that is installed, in single precision on a CPU; "
        "half: half precision, where the masks keep a Dice of 0.999 with those of single precision",
    )
    where = "run on this machine (local, the default) or on a Ray cluster (RAY_ADDRESS, or one started on this machine)"
    group.add_argument("--engine", choices=("local", "ray"), default="local", help=where)


def run(options: argparse.Namespace) -> Answer:
    """Predict each case; an error in one is reported and does not stop the others."""
    from cphloc.inference.batch import cases_of
    from cphloc.inference.batch_report import check_suffix, write_report

    if options.report:
        check_suffix(options.report)
    rows = list(_rows(options, cases_of(options.inputs)))
    if options.report:
        write_report(options.report, rows, options.spacing)
    lines = [line for row in rows for line in _lines(row)]
    return Answer("\n".join([*lines, *_computed_by(rows)]), rows, _exit_code(rows))


def _rows(options: argparse.Namespace, cases: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """Predict the cases, in a child process or on the cluster, and give one report row per case."""
    from cphloc.inference.batch_cluster import Job, predict_over

    how = {"tta": options.tta, "overlap": options.overlap, "skip_air": not options.keep_air}
    how |= {"uncertainty": options.uncertainty, "threshold": options.threshold}
    how |= {
        "postprocess": not options.no_postprocess,
        "window_batch": options.window_batch,
        "strict": options.strict,
        "units": units_by_channel(options.unit),
    }
    made = tuple(options.entry.split(",")), options.backend
    jobs = [Job(*made, case, options.out, options.spacing, options.redo, how) for case in cases]
    return track(predict_over(jobs, options.engine, _load), "predicting", len(jobs))


def _load(names: Any, backend: BackendName) -> Any:
    """Load a model in a worker; imported there, so that this process does not need torch."""
    from cphloc.zoo.load import load

    return load(names, backend=backend)


def _exit_code(rows: Sequence[Mapping[str, Any]]) -> int:
    """Return 0 where every case succeeded, 2 where every case failed through wrong input, else 1."""
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
    found = [counted(len(row["boxes"]), "box")] if "boxes" in row else []
    likely = [f"{name} p = {p:.3f}" for name, p in row.get("probabilities", {}).items()]
    kept = " (finished before)" if row["status"] == "kept" else ""
    yield f"{row['case']}: {'; '.join([*sizes, *found, *likely])}{kept}"
    yield from (f"  note: {note}" for note in row.get("notes", ()))
    yield from (f"  warning: {warning}" for warning in row.get("warnings", ()))
    assumed = assumed_units(row.get("inputs", {}))
    yield from [f"  {assumed}"] if assumed else ()
    yield from (f"  {file}" for file in row["files"])


def _computed_by(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """One line for each runtime other than torch that was used, with how far it is from torch."""
    found = {made["backend"]: made for row in rows if (made := row.get("computed")) is not None}
    for backend, made in found.items():
        if backend != "torch":
            masks = f"; Dice of its masks with torch's: {made['dice']:.4f}" if "dice" in made else ""
            yield f"computed by {backend}, at most {made['difference']:.1e} from torch{masks}"
