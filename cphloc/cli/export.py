"""``cphloc export``: write the network of an entry or a run as ONNX, proven equal to torch first."""

from __future__ import annotations

import argparse
import dataclasses

from cphloc.cli.result import Answer, table
from cphloc.errors import InputError


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("source", metavar="ENTRY-or-RUN", help="an entry, or a run's id or folder")
    parser.add_argument("--format", choices=["onnx"], default="onnx", help="format of the file; default: onnx")
    parser.add_argument("--out", metavar="FILE.onnx", required=True, help="the ONNX file to write")


def run(options: argparse.Namespace) -> Answer:
    """Export the network, and print its inputs and outputs and how far ONNX Runtime differs from torch."""
    if not options.out.endswith(".onnx"):
        msg = f"--out {options.out}: an ONNX file's name ends in .onnx; write --out {options.out}.onnx"
        raise InputError(msg)
    from cphloc.evaluation.evaluate import open_localizer
    from cphloc.inference.export import export_model

    localizer, _ = open_localizer(options.source)
    entry = localizer.entry
    source = None if entry is None else str(entry)
    done = export_model(localizer.model, localizer.recipe, options.out, source)
    rows = [("input", name, _text(shape)) for name, shape in done.inputs.items()]
    rows += [("output", name, _text(shape)) for name, shape in done.outputs.items()]
    agreement = f"ONNX Runtime differs from torch by {done.difference:.1e}; up to {done.tolerance:.0e} is allowed"
    return Answer(f"wrote {done.path}\n{table(rows)}\n{agreement}", dataclasses.asdict(done))


def _text(shape: tuple[str | int, ...]) -> str:
    return " x ".join(map(str, shape))
