"""``cphloc import``: weights of another framework as an entry, proven equal."""

from __future__ import annotations

import argparse

from cphloc.cli.result import Answer
from cphloc.errors import InputError

FRAMEWORKS = ("nnunet",)
"""What can be imported."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("framework", choices=FRAMEWORKS, help="framework that trained the weights")
    what = "nnunet: folder of a trained configuration, one above it, or an exported zip"
    parser.add_argument("source", metavar="SOURCE", help=what)
    parser.add_argument("--name", required=True, help="name of the entry")
    parser.add_argument("--version", required=True, metavar="X.Y.Z", help="new version of the entry")
    parser.add_argument("--licence", required=True, help="licence of the weights, such as CC-BY-4.0")
    parser.add_argument("--citation", required=True, help="publication to cite for the weights")
    parser.add_argument("--origin", required=True, help="where the weights come from: web address, or people and date")
    parser.add_argument(
        "--to", metavar="ZOO", help="zoo folder; default: the first of CPHLOC_ZOO, else the shipped zoo"
    )
    proof = parser.add_mutually_exclusive_group()
    proof.add_argument("--prove", action="store_true", help="predict with the framework too, and compare")
    given = "compare with inputs and outputs that the framework saved; see cphloc/importing/proof.py"
    proof.add_argument("--reference", metavar="FOLDER", help=given)
    python = "Python that has the framework, for --prove; default: an environment made with uv in the cache"
    parser.add_argument("--python", metavar="PYTHON", help=python)
    parser.add_argument("--folds", nargs="+", metavar="FOLD", help="nnunet: folds to take; default: all")
    parser.add_argument(
        "--no-mirroring", action="store_true", help="nnunet: do not average mirrored views, as with --disable_tta"
    )


def run(options: argparse.Namespace) -> Answer:
    """Import the model, and print the folder and the proof."""
    if options.python and not options.prove:
        msg = "--python is for --prove; give both, or neither"
        raise InputError(msg)
    from cphloc.importing.entry import Terms, publish_imported
    from cphloc.importing.environment import Prover
    from cphloc.importing.nnunet import import_nnunet
    from cphloc.publishing.publish import zoo_to_write

    terms = Terms(options.licence, options.citation, options.origin)
    imported = import_nnunet(options.source, options.folds, not options.no_mirroring)
    further = ["--folds", *options.folds] if options.folds else []
    further += ["--no-mirroring"] * options.no_mirroring
    prover = Prover(imported, options.python, tuple(further)) if options.prove else None
    entry = publish_imported(
        imported, options.name, options.version, terms, options.to, prover=prover, reference=options.reference
    )
    folder = zoo_to_write(options.to) / options.name / options.version
    verdict = entry.imported.verdict.replace("**", "") if entry.imported else ""
    return Answer(f"imported {entry} in {folder}\n{verdict}", entry.model_dump(mode="json") | {"folder": str(folder)})
