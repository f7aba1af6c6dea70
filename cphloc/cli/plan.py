"""``cphloc plan``: write a recipe that fits a data set."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from cphloc.cli.result import Answer, overrides, table
from cphloc.data.case_table import explanation
from cphloc.data.planning.presets import PRESETS
from cphloc.errors import CphlocError, InputError
from cphloc.files import atomic


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = f"columns of cases.csv (cphloc data template writes an empty one):\n{explanation()}"
    parser.add_argument(
        "data",
        metavar="DATA",
        help="name of a data set, or a folder: laid out for nnU-Net, Pascal VOC, COCO, YOLO or LUNA16, with a "
        "cases.csv, with images and masks of the same names, with a folder of pictures per class, or with DICOM series "
        "and the RTSTRUCT or SEG that refers to them",
    )
    what = "an argument of the data set, such as classes=[cyst,mass]; repeatable"
    parser.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], help=what)
    parser.add_argument(
        "--dims",
        type=int,
        choices=(2, 3),
        help="2-D or 3-D model, for nnU-Net and cases.csv folders; default: that of the first image",
    )
    add = parser.add_argument
    add("--steps", type=int, default=3000, metavar="N", help="training steps; default 3000")
    add("--no-measure", action="store_true", help="do not measure three training steps to estimate the time")
    add("--memory", type=float, metavar="GB", help="memory of a training step in GB; default 4, and --voxels 300000")
    add("--voxels", type=int, metavar="N", help="largest patch in voxels; default 300000, unlimited with --memory")
    wide = "default 16, 24 in resenc, and 32 in resenc-m, -l, -xl"
    add("--width", type=int, metavar="N", help=f"channels of the first stage; {wide}")
    families = "; ".join(f"{name}: {preset.summary}" for name, preset in PRESETS.items())
    add("--preset", choices=tuple(PRESETS), default=next(iter(PRESETS)), help=f"family of networks; {families}")
    parser.add_argument("--out", metavar="FILE", type=Path, help="recipe to write; without it, the recipe is printed")


def run(options: argparse.Namespace) -> Answer:
    """Survey the training cases, plan, check the recipe, and write or print it."""
    from cphloc.data.planning.layout import recognize
    from cphloc.data.planning.plan import Budget, plan
    from cphloc.data.planning.splits import propose_splits
    from cphloc.data.planning.survey import survey
    from cphloc.recipe.schema import schema_line

    if options.out is not None and options.out.exists():
        msg = f"{options.out}: exists; choose another name, or remove it"
        raise InputError(msg)
    layout, notes = propose_splits(recognize(options.data, overrides(options), options.dims))
    found = replace(survey(layout.open()), notes=notes)
    budget = Budget(options.voxels, options.memory, options.width, options.steps, options.preset)
    patient = {} if layout.patient is None else {"patient": layout.patient}
    planned = plan(found, layout.name, {**_placed(layout.arguments, options.out), **patient}, budget)
    seconds = None if options.no_measure else _seconds_per_step(planned.recipe, layout.arguments)
    facts: dict[str, Any] = {
        "recipe": planned.recipe,
        "seconds_per_step": seconds,
        "heads": [rung.name.lower() for rung in planned.heads],
        "spacing_mm": planned.spacing_mm,
        "patch": planned.topology.patch,
        "batch": planned.batch,
        "fingerprint": found.facts,
    }
    estimate = (
        "" if seconds is None else f"# {_duration(options.steps * seconds)} on this machine, without validation\n"
    )
    if options.out is None:
        return Answer(estimate + planned.recipe, facts)
    with atomic(options.out) as temporary:
        temporary.write_text(schema_line(options.out) + planned.recipe, encoding="utf-8")
    said = f"{table(found.rows)}\n{estimate.removeprefix('# ')}"
    return Answer(f"{said}\nwrote {options.out}; next: cphloc check {options.out}", facts)


def _seconds_per_step(recipe: str, arguments: Mapping[str, Any]) -> float | None:
    """Seconds of a training step on this machine; ``None``, with the reason on the error stream, if it cannot train."""
    from cphloc.config.yamlio import read
    from cphloc.recipe.recipe import load
    from cphloc.training.speed import seconds_per_step

    root = {"data.root": arguments["root"]} if "root" in arguments else {}
    try:
        return seconds_per_step(load(read(recipe, "planned recipe"), root))
    except CphlocError as error:
        print(f"a training step could not be measured: {error}", file=sys.stderr)
        return None


def _duration(seconds: float) -> str:
    """Describe the length of a training.

    >>> _duration(4200), _duration(40), _duration(90000)
    ('about 70 minutes', 'about 1 minute', 'about 25 hours')
    """
    minutes = max(1, round(seconds / 60))
    if minutes >= 120:
        return f"about {round(minutes / 60)} hours"
    return f"about {minutes} minute{'s' if minutes > 1 else ''}"


def _placed(stated: Mapping[str, Any], out: Path | None) -> dict[str, Any]:
    """Arguments of the data set with ``root`` relative to the recipe, or absolute where the recipe is printed."""
    root = Path(str(stated.get("root", ""))).expanduser()
    if "root" not in stated or not root.is_dir():
        return dict(stated)
    if out is None:
        return {**stated, "root": root.resolve().as_posix()}
    try:
        return {**stated, "root": Path(os.path.relpath(root.resolve(), out.resolve().parent)).as_posix()}
    except ValueError:  # on another drive
        return {**stated, "root": root.resolve().as_posix()}
