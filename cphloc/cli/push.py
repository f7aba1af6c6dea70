"""``cphloc push``: send runs to MLflow that could not be logged while they trained."""

from __future__ import annotations

import argparse

from cphloc.cli.result import Answer


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("runs", metavar="RUN", nargs="+", help="a run's id or folder")
    parser.add_argument(
        "--to", metavar="URI", help="tracking server to send the whole run to; default: the one that the run began with"
    )


def run(options: argparse.Namespace) -> Answer:
    """Send what MLflow lacks of each run, and print the number of events."""
    from cphloc.tracking.run import Run
    from cphloc.tracking.tracker import push

    sent = {found.id: push(found.folder, options.to) for found in map(Run.open, options.runs)}
    lines = [f"{id}: {count} events sent" if count else f"{id}: nothing was left to send" for id, count in sent.items()]
    return Answer("\n".join(lines), sent)
