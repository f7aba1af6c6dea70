"""``cphloc predict``: localize in images, results in each image's own geometry."""

from __future__ import annotations

import argparse
import json
from typing import Any, get_args

from cphloc.backend import BackendName
from cphloc.commands import Answer


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("entry", metavar="ENTRY", help="an entry such as unet3d-hippocampus@^1, or its folder")
    parser.add_argument("inputs", metavar="INPUT", nargs="+", help="files or DICOM folders; channels as ct=A,pet=B")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the results")
    parser.add_argument("--spacing", metavar="MM", type=_spacing, help="voxel size of pictures and arrays: 3,1,1")
    parser.add_argument("--tta", action="store_true", help="average over mirrored views")
    parser.add_argument("--overlap", type=float, default=0.5, metavar="SHARE", help="of neighbouring windows; 0.5")
    parser.add_argument("--keep-air", action="store_true", help="compute windows of nothing but air too (CT)")
    parser.add_argument("--backend", choices=get_args(BackendName), default="auto", help="what computes; auto")
    parser.add_argument("--report", metavar="FILE", help="facts about all inputs as one JSON file")


def run(options: argparse.Namespace) -> Answer:
    """Predict each input; one that cannot be read is named and does not stop the others."""
    from rich.console import Console
    from rich.progress import track

    from cphloc.errors import DataError
    from cphloc.paths import atomic
    from cphloc.zoo.load import load

    model = load(options.entry, backend=options.backend)
    how = {"tta": options.tta, "overlap": options.overlap, "skip_air": not options.keep_air}
    done, lines, failed = [], [], 0
    for text in track(options.inputs, "predicting", console=Console(stderr=True), transient=True):
        try:
            result = model.predict(_source(text), options.spacing, **how)
        except DataError as error:
            failed += 1
            done.append({"input": text, "error": str(error)})
            lines.append(f"error: {error}")
            continue
        files = result.save(options.out)
        done.append({"input": text, **result.summary(), "files": [str(file) for file in files]})
        lines += [_line(result.summary()), *(f"  {file}" for file in files)]
    if options.report:
        with atomic(options.report) as temporary:
            temporary.write_text(json.dumps(done, indent=2) + "\n", encoding="utf-8")
    return Answer("\n".join(lines), done, exit_code=2 if failed else 0)


def _source(text: str) -> str | dict[str, str]:
    """``ct=A,pet=B`` as a mapping from channel to file; anything else is a path."""
    parts = [part.partition("=") for part in text.split(",")]
    return {name: path for name, _, path in parts} if all(sign for _, sign, _ in parts) else text


def _line(facts: dict[str, Any]) -> str:
    sizes = [
        f"{name} {', '.join(f'{key} {value:.4g}' for key, value in measured.items())}"
        for name, measured in facts.get("measurements", {}).items()
    ]
    found = [f"{len(facts['boxes'])} boxes"] if "boxes" in facts else []
    likely = [f"{name} p = {p:.3f}" for name, p in facts.get("probabilities", {}).items()]
    return f"{facts['case']}: {'; '.join([*sizes, *found, *likely])}"


def _spacing(text: str) -> tuple[float, ...]:
    return tuple(float(number) for number in text.split(","))
