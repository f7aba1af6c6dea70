"""``cphloc train``: train a recipe, log to MLflow, keep the best weights."""

from __future__ import annotations

import argparse

from cphloc.commands import Answer, overrides, table


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("recipe", metavar="RECIPE", nargs="?", help="a YAML file, or the name of a shipped recipe")
    parser.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], help="override a value; repeatable")
    parser.add_argument("--resume", metavar="RUN", help="go on with an interrupted run")
    parser.add_argument("--devices", type=int, default=1, metavar="N", help="processes on this machine")
    parser.add_argument("--nodes", type=int, default=1, metavar="N", help="machines")


def run(options: argparse.Namespace) -> Answer:
    """Train, and say where the run is and how good it got."""
    from cphloc.training import allocator

    allocator.choose()
    from cphloc.training.train import train

    trained = train(
        options.recipe, overrides(options), resume=options.resume, devices=options.devices, nodes=options.nodes
    )
    facts = {"run": trained.id, "folder": str(trained.folder), "metrics": trained.metrics}
    rows = [(name, f"{value:.4g}") for name, value in trained.metrics.items()]
    return Answer(f"{table(rows)}\n\nrun {trained.id} in {trained.folder}", facts)
