"""``cphloc plan``: write a recipe that fits a data set."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cphloc.cli.result import Answer, overrides, table
from cphloc.data.case_table import explanation
from cphloc.data.planning.presets import PRESETS
from cphloc.errors import InputError, NotFoundError
from cphloc.files import atomic

_LAYOUT_MARKS = {
    "dataset.json": "nnunet",
    "ImageSets/Main": "voc",
    "annotations/instances_train.json": "coco",
    "data.yaml": "yolo",
    "classes.txt": "yolo",
    "annotations.csv": "luna16",
    "cases.csv": "image_folder",
}
"""File or folder by which a layout is recognized -> its data set; the first that exists counts."""


_COLOURS = ("red", "green", "blue")
"""Names of the channels of a colour picture."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = f"columns of cases.csv (cphloc data template writes an empty one):\n{explanation()}"
    parser.add_argument(
        "data",
        metavar="DATA",
        help="name of a data set, or a folder laid out for nnU-Net, Pascal VOC, COCO, YOLO, LUNA16 or with a cases.csv",
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
    add("--memory", type=float, metavar="GB", help="memory of a training step in GB; default 4, and --voxels 300000")
    add("--voxels", type=int, metavar="N", help="largest patch in voxels; default 300000, unlimited with --memory")
    add("--width", type=int, metavar="N", help="channels of the first stage; default 24, and 32 in resenc-m, -l, -xl")
    families = "; ".join(f"{name}: {preset.summary}" for name, preset in PRESETS.items())
    add("--preset", choices=tuple(PRESETS), default=next(iter(PRESETS)), help=f"family of networks; {families}")
    parser.add_argument("--out", metavar="FILE", type=Path, help="recipe to write; without it, the recipe is printed")


def run(options: argparse.Namespace) -> Answer:
    """Survey the training cases, plan, check the recipe, and write or print it."""
    from cphloc.data.planning.plan import Budget, plan
    from cphloc.data.planning.survey import survey
    from cphloc.recipe.schema import schema_line
    from cphloc.registry import catalogue

    name, stated = _named(options.data)
    stated |= overrides(options)
    kind = catalogue.resolve("dataset", name)
    wired: dict[str, Any] = {}
    if name in ("image_folder", "nnunet"):
        dims, channels = _first_image(kind, stated)
        wired = {"dims": options.dims or dims}
        if name == "image_folder" and channels == len(_COLOURS) and "channels" not in stated:
            stated["channels"] = list(_COLOURS)
    found = survey(kind(**stated, **wired))
    budget = Budget(options.voxels, options.memory, options.width, options.steps, options.preset)
    planned = plan(found, name, _placed(stated, options.out), budget)
    facts: dict[str, Any] = {
        "recipe": planned.recipe,
        "heads": [rung.name.lower() for rung in planned.heads],
        "spacing_mm": planned.spacing_mm,
        "patch": planned.topology.patch,
        "batch": planned.batch,
        "fingerprint": found.facts,
    }
    if options.out is None:
        return Answer(planned.recipe, facts)
    if options.out.exists():
        msg = f"{options.out}: exists; choose another name, or remove it"
        raise InputError(msg)
    with atomic(options.out) as temporary:
        temporary.write_text(schema_line(options.out) + planned.recipe, encoding="utf-8")
    return Answer(f"{table(found.rows)}\n\nwrote {options.out}; next: cphloc check {options.out}", facts)


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


def _first_image(kind: Any, stated: dict[str, Any]) -> tuple[int, int]:
    """Number of spatial axes and of channels of the first image that can be read; 3 and 1 if there is none."""
    from cphloc.data.io.read import read_volume
    from cphloc.structures.split import SPLITS

    dataset = kind(**stated, dims=3)
    for case in (case for split in SPLITS for case in dataset.cases(split)):
        try:
            volume = read_volume(case.images[0])
        except InputError:
            continue
        return volume.dims, len(volume.array)
    return 3, 1


def _named(data: str) -> tuple[str, dict[str, Any]]:
    """Name and arguments of the data set that ``data`` names; a folder called like a shipped data set is that one."""
    from cphloc.registry import catalogue

    folder = Path(data).expanduser().resolve()
    if not folder.is_dir():
        return catalogue.card("dataset", data).name, {}
    if folder.name in catalogue.cards("dataset"):
        return folder.name, {"root": str(folder)}
    for mark, name in _LAYOUT_MARKS.items():
        if (folder / mark).exists():
            return name, {"root": str(folder)}
    msg = f"{folder}: is in no known layout; it needs one of {', '.join(_LAYOUT_MARKS)}"
    raise NotFoundError(msg)
