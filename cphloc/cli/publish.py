"""``cphloc publish``: freeze a run as a version of an entry."""

from __future__ import annotations

import argparse

from cphloc.cli.result import Answer


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("run", metavar="RUN", help="a trained and evaluated run, its id or folder")
    parser.add_argument("--name", required=True, help="of the entry")
    parser.add_argument("--version", required=True, metavar="X.Y.Z", help="a new version; published ones never change")
    parser.add_argument("--to", metavar="ZOO", help="zoo folder; default: first of CPHLOC_ZOO, else the shipped one")
    parser.add_argument("--about", metavar="FILE", help="YAML: summary, intended_use, limits, changelog")
    parser.add_argument("--sample", metavar="CASE", help="test case to ship as the sample")
    parser.add_argument("--because", metavar="WHY", help="publish although it is worse than the version before")
    place = "where the weights will lie, if they are too large to ship; repeat it for mirrors"
    parser.add_argument("--url", metavar="URL", action="append", default=[], help=place)


def run(options: argparse.Namespace) -> Answer:
    """Publish, and say where."""
    from cphloc.publishing.publish import publish, zoo_to_write

    entry = publish(
        options.run,
        options.name,
        options.version,
        to=options.to,
        because=options.because,
        about=options.about,
        sample=options.sample,
        urls=tuple(options.url),
    )
    folder = zoo_to_write(options.to) / options.name / options.version
    text = f"published {entry} in {folder}"
    if entry.weights.file is None:
        from cphloc.zoo.entries import cached_path

        text += f"; upload its weights, {cached_path(entry.weights)}, to {entry.weights.urls[0]}"
    return Answer(text, entry.model_dump(mode="json") | {"folder": str(folder)})
