"""``cphloc import``: weights of another framework as an entry, proven equal."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from cphloc.cli.result import Answer
from cphloc.errors import InputError

if TYPE_CHECKING:
    from cphloc.importing.imported import Imported

OPTIONS: Mapping[str, tuple[str, ...]] = {
    "nnunet": ("folds", "no_mirroring"),
    "smp": ("classes", "mean", "std"),
    "torchvision": ("checkpoint", "classes", "size"),
    "monai": ("classes",),
}
"""What can be imported -> the options that only some importers have."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("framework", choices=tuple(OPTIONS), help="framework that trained the weights")
    what = "nnunet: folder of a trained configuration, one above it, or an exported zip; smp: folder of "
    what += "save_pretrained, or a checkpoint beside its config.json; torchvision: name of a detector, such as "
    what += "retinanet_resnet50_fpn; monai: folder of a bundle"
    parser.add_argument("source", metavar="SOURCE", help=what)
    parser.add_argument("--name", required=True, help="name of the entry")
    parser.add_argument("--version", required=True, metavar="X.Y.Z", help="new version of the entry")
    parser.add_argument("--licence", required=True, help="licence of the weights, such as CC-BY-4.0")
    parser.add_argument("--citation", required=True, help="publication to cite for the weights")
    parser.add_argument("--origin", required=True, help="where the weights come from: web address, or people and date")
    to = "zoo folder; default: the first of CPHLOC_ZOO, else the shipped zoo"
    parser.add_argument("--to", metavar="ZOO", help=to)
    proof = parser.add_mutually_exclusive_group()
    prove = "let the framework predict an image too, and compare; an import that differs is not written. Without this "
    prove += "and --reference, the first line of the card says: not proven"
    proof.add_argument("--prove", action="store_true", help=prove)
    given = "compare with what the framework saved: CASE.npz with the arrays input and logits, or CASE_0000.nii.gz "
    given += "(one file per channel) with the mask CASE.nii.gz, or with CASE.npz of boxes, scores and labels"
    proof.add_argument("--reference", metavar="FOLDER", help=given)
    python = "Python that has the framework, for --prove; default: an environment made with uv in the cache"
    parser.add_argument("--python", metavar="PYTHON", help=python)
    _own_arguments(parser)


def _own_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of single frameworks, which `OPTIONS` lists."""
    parser.add_argument("--folds", nargs="+", metavar="FOLD", help="nnunet: folds to take; default: all")
    mirroring = "nnunet: do not average mirrored views, as with --disable_tta"
    parser.add_argument("--no-mirroring", action="store_true", default=None, help=mirroring)
    classes = "smp, torchvision, monai: names of the classes in the order of the network's outputs; of a softmax "
    classes += "without the background, which is its first output"
    parser.add_argument("--classes", nargs="+", metavar="NAME", help=classes)
    colours = "smp: {} of each channel, of values from 0 to 1; default: ImageNet's"
    parser.add_argument("--mean", nargs="+", type=float, metavar="M", help=colours.format("mean"))
    parser.add_argument("--std", nargs="+", type=float, metavar="S", help=colours.format("standard deviation"))
    own = "torchvision: state dict of the detector; default: torchvision's own weights"
    parser.add_argument("--checkpoint", metavar="FILE", help=own)
    size = "torchvision: length of the shorter side to which pictures are scaled, and the most of the longer"
    parser.add_argument("--size", nargs=2, type=int, metavar="PIXELS", help=size)


def run(options: argparse.Namespace) -> Answer:
    """Import the model, and print the folder and the proof."""
    if options.python and not options.prove:
        msg = "--python is for --prove; give both, or neither"
        raise InputError(msg)
    from cphloc.importing.entry import Terms, publish_imported
    from cphloc.importing.environment import Prover
    from cphloc.publishing.publish import zoo_to_write

    terms = Terms(options.licence, options.citation, options.origin)
    imported = _importers()[options.framework](options.source, **_own_options(options))
    prover = None
    if options.prove:
        prover = Prover(imported.framework, imported.source, options.python, imported.prove_with)
    entry = publish_imported(
        imported, options.name, options.version, terms, options.to, prover=prover, reference=options.reference
    )
    folder = zoo_to_write(options.to) / options.name / options.version
    verdict = entry.imported.verdict.replace("**", "") if entry.imported else ""
    return Answer(f"imported {entry} in {folder}\n{verdict}", entry.model_dump(mode="json") | {"folder": str(folder)})


def _importers() -> Mapping[str, Callable[..., Imported]]:
    from cphloc.importing.monai import import_monai
    from cphloc.importing.nnunet import import_nnunet
    from cphloc.importing.smp import import_smp
    from cphloc.importing.torchvision import import_torchvision

    return {"nnunet": import_nnunet, "smp": import_smp, "torchvision": import_torchvision, "monai": import_monai}


def _own_options(options: argparse.Namespace) -> dict[str, object]:
    """Return the options of the framework that were given.

    Raises:
        InputError: one of another framework was given.
    """
    known = {name for names in OPTIONS.values() for name in names}
    given = {name: value for name in sorted(known) if (value := getattr(options, name)) is not None}
    for name in given:
        if name not in OPTIONS[options.framework]:
            others = " and ".join(framework for framework, names in OPTIONS.items() if name in names)
            msg = f"--{name.replace('_', '-')} is for {others}; leave it out for {options.framework}"
            raise InputError(msg)
    return given
