"""``cphloc publish``: freeze a run as a version of an entry."""

from __future__ import annotations

import argparse

from cphloc.cli.result import Answer


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options, those of the same purpose together."""
    run = (
        "id or folder of a trained and evaluated run, or of a cross-validation; or an entry, to publish its weights "
        "anew with what is measured now"
    )
    parser.add_argument("run", metavar="RUN", help=run)
    parser.add_argument("--name", required=True, help="name of the entry")
    version = "new version of the entry; a published version cannot be replaced"
    parser.add_argument("--version", required=True, metavar="X.Y.Z", help=version)
    zoo = "zoo folder; default: the first of CPHLOC_ZOO, else the shipped zoo"
    parser.add_argument("--to", metavar="ZOO", help=zoo)
    _of_content(parser.add_argument_group("what the entry holds"))
    _of_checks(parser.add_argument_group("what lets it pass a check"))


def _of_content(group: argparse._ArgumentGroup) -> None:
    about = "YAML file with summary, intended_use, limits and changelog; default: as in the recipe"
    group.add_argument("--about", metavar="FILE", help=about)
    sample = "id of the test case to ship as sample; default: the smallest with a detection"
    group.add_argument("--sample", metavar="CASE", help=sample)
    networks = "of a cross-validation, publish the networks of the first N folds as an ensemble; default: of all folds"
    group.add_argument("--members", type=int, metavar="N", help=networks)
    parity = "export the network as ONNX, and state on the card how far ONNX Runtime differs from torch"
    group.add_argument("--onnx", action="store_true", help=parity)
    better = "version of another name, as NAME@X.Y.Z, that this one should be used instead of; repeatable"
    group.add_argument("--supersedes", metavar="ENTRY", action="append", default=[], help=better)
    place = "address to which you will upload weights that are too large to ship; repeatable, for mirrors"
    group.add_argument("--url", metavar="URL", action="append", default=[], help=place)
    key = (
        "sign the entry with this ed25519 private key, made with: ssh-keygen -t ed25519 (or openssl genpkey); a "
        "passphrase is taken from CPHLOC_SIGNING_PASSPHRASE or asked for"
    )
    group.add_argument("--sign", metavar="KEY", help=key)


def _of_checks(group: argparse._ArgumentGroup) -> None:
    below = "reason to publish a version whose headline metric is not above that of its baseline"
    group.add_argument("--below-baseline", metavar="WHY", help=below)
    worse = "reason to publish a version that is significantly worse than the one before"
    group.add_argument("--because", metavar="WHY", help=worse)
    clean = "you have looked at images that may have text burned into their pixels, and they show no name"
    group.add_argument("--sample-is-clean", action="store_true", help=clean)


def run(options: argparse.Namespace) -> Answer:
    """Publish the run, and print the folder and what is left to upload."""
    from cphloc.publishing.publish import publish, zoo_to_write

    entry = publish(
        options.run,
        options.name,
        options.version,
        to=options.to,
        because=options.because,
        below_baseline=options.below_baseline,
        about=options.about,
        sample=options.sample,
        urls=tuple(options.url),
        sample_is_clean=options.sample_is_clean,
        sign=options.sign,
        members=options.members,
        supersedes=tuple(options.supersedes),
        onnx=options.onnx,
    )
    folder = zoo_to_write(options.to) / options.name / options.version
    text = f"published {entry} in {folder}"
    if entry.weights.file is None:
        from cphloc.zoo.listing import cached_path

        text += f"; upload its weights, {cached_path(entry.weights)}, to {entry.weights.urls[0]}"
    return Answer(text, entry.model_dump(mode="json") | {"folder": str(folder)})
