"""``cphloc export``: write the network of an entry or a run for other programs, proven equal first."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, cast

from cphloc.cli.result import Answer, table
from cphloc.errors import InputError
from cphloc.files import atomic

if TYPE_CHECKING:
    from cphloc.inference.localizer import Localizer
    from cphloc.modeling.model import Model

FORMATS = {"onnx": ".onnx", "torch": ".pt2", "monai-bundle": "", "nnunet": ""}
"""Format -> ending of its file; the last two are folders."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("source", metavar="ENTRY-or-RUN", help="an entry, or a run's id or folder")
    what = "onnx: for ONNX Runtime and others; torch: a program of torch.export, read by torch.export.load; "
    what += "monai-bundle: a folder for python -m monai.bundle run; nnunet: a folder for "
    what += "nnUNetv2_predict_from_modelfolder, of entries that came from nnU-Net; default: onnx"
    parser.add_argument("--format", choices=tuple(FORMATS), default="onnx", help=what)
    where = "the file to write (.onnx, .pt2), or the folder for monai-bundle and nnunet; of a pipeline, a folder with "
    where += "a slash at its end, which gets one file per stage"
    parser.add_argument("--out", metavar="FILE", required=True, help=where)
    parser.add_argument(
        "--prove",
        action="store_true",
        help="nnunet: let nnU-Net itself predict an image with it, and compare; the other formats are always compared",
    )
    python = "Python that has nnU-Net, for --prove; default: an environment made with uv in the cache"
    parser.add_argument("--python", metavar="PYTHON", help=python)


def run(options: argparse.Namespace) -> Answer:
    """Export the network, and print its inputs and outputs and how far the exported one differs."""
    _check_options(options)
    from cphloc.evaluation.evaluate import open_localizer
    from cphloc.importing.to_monai import export_monai
    from cphloc.importing.to_nnunet import export_nnunet
    from cphloc.inference.export import export_model
    from cphloc.inference.export_torch import export_torch

    localizer, _ = open_localizer(options.source)
    if localizer.recipe.stages:
        return _stages(options, localizer)
    if options.out.endswith("/") and FORMATS[options.format]:
        msg = f"--out {options.out}: a folder is for the stages of a pipeline; name a {FORMATS[options.format]} file"
        raise InputError(msg)
    source = None if localizer.entry is None else str(localizer.entry)
    if options.format == "nnunet":
        done = export_nnunet(localizer, options.out, options.prove, options.python)
    elif options.format == "monai-bundle":
        done = export_monai(localizer, options.out, source)
    else:
        write = export_model if options.format == "onnx" else export_torch
        done = write(localizer.model, localizer.recipe, options.out, source)
    rows = [("input", name, _text(shape)) for name, shape in done.inputs.items()]
    rows += [("output", name, _text(shape)) for name, shape in done.outputs.items()]
    runtime = "ONNX Runtime" if options.format == "onnx" else "the exported network"
    agreement = f"{runtime} differs from torch by {done.difference:.1e}; up to {done.tolerance:.0e} is allowed"
    agreement += f"\n{done.proof}" if done.proof else ""
    return Answer(f"wrote {done.path}\n{table(rows)}\n{agreement}", dataclasses.asdict(done))


def _stages(options: argparse.Namespace, localizer: Localizer) -> Answer:
    """Export each stage of a pipeline to a file of its own, with the recipe beside them."""
    from cphloc.inference.export import export_model
    from cphloc.inference.export_torch import export_torch

    if not FORMATS[options.format]:
        msg = f"a pipeline has no single network for {options.format}; export the entries of its stages: "
        raise InputError(msg + ", ".join(stage.entry for stage in localizer.recipe.stages.values()))
    if not options.out.endswith("/"):
        msg = f"--out {options.out}: a pipeline is one file per stage; name a folder: --out {Path(options.out).stem}/"
        raise InputError(msg)
    folder, write = Path(options.out), export_model if options.format == "onnx" else export_torch
    folder.mkdir(parents=True, exist_ok=True)
    done = {}
    for name, recipe in localizer.recipe.stage_recipes.items():
        network, file = cast("Model", localizer.model.get_submodule(name)), f"{name}{FORMATS[options.format]}"
        done[name] = write(network, recipe, folder / file, localizer.recipe.stages[name].entry)
    with atomic(folder / "recipe.yaml") as temporary:
        temporary.write_text(localizer.recipe.to_yaml(), encoding="utf-8")
    rows = [(name, str(one.path), f"differs from torch by {one.difference:.1e}") for name, one in done.items()]
    return Answer(f"{table(rows)}\nwrote {folder / 'recipe.yaml'}", [dataclasses.asdict(one) for one in done.values()])


def _check_options(options: argparse.Namespace) -> None:
    """Refuse a name that other programs would not open as the format, and options of other formats."""
    form, out = options.format, options.out
    if (options.prove or options.python) and form != "nnunet":
        msg = f"--prove and --python are for --format nnunet; {form} is always proven, leave them out"
        raise InputError(msg)
    ending = FORMATS[form]
    if ending and not out.endswith((ending, "/")):
        what = {"onnx": "an ONNX file", "torch": "a program of torch"}[form]
        msg = f"--out {out}: {what}'s name ends in {ending}; write --out {out}{ending}"
        raise InputError(msg)
    if not ending and Path(out).suffix in (".onnx", ".pt2"):
        msg = f"--out {out}: this format is a folder; write --out {out.removesuffix(Path(out).suffix)}"
        raise InputError(msg)


def _text(shape: tuple[str | int, ...]) -> str:
    return " x ".join(map(str, shape))
