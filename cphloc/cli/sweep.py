"""``cphloc sweep``: search for the best values of a recipe with Optuna."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from cphloc.cli.result import Answer, number, overrides, recipe_arguments, table


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    recipe_arguments(parser)
    parser.epilog = """the search space is the block sweep of the recipe, or a file of its own (--space), by dotted key:
  sweep:
    train.optimizer.lr: {low: 1e-4, high: 1e-2, log: true}
    train.batch: {low: 2, high: 8, step: 2}
    model.backbone.widths: [[16, 32, 64], [24, 48, 96]]
needs the extra sweep: pip install 'cphloc[sweep]'"""
    add = parser.add_argument
    add("--space", metavar="FILE", type=Path, help="YAML file with the search space")
    add("--trials", type=int, default=20, metavar="N", help="trials in all, those of before included; default 20")
    add("--minutes", type=float, metavar="M", help="begin no trial after this time")
    add("--seed", type=int, default=0, metavar="N", help="seed of the search; default 0")
    what = "stop trials early that are below the median of the others (median, the default), by Hyperband, or not"
    add("--pruner", choices=("median", "hyperband", "none"), default="median", help=what)
    what = "folder of the sweep; default sweeps/<recipe>; one that was interrupted, or has fewer trials, is continued"
    add("--out", metavar="DIR", type=Path, help=what)


def run(options: argparse.Namespace) -> Answer:
    """Run the trials; print their table, the best values and the file of the best recipe."""
    from cphloc.studies.sweep import sweep

    found = sweep(
        options.recipe,
        options.space,
        overrides(options),
        trials=options.trials,
        minutes=options.minutes,
        seed=options.seed,
        pruner=options.pruner,
        out=options.out,
    )
    keys = [key for key in found.best if key not in ("trial", "state", "value", "steps", "seconds", "run")]
    order = sorted(found.trials, key=lambda row: row["trial"] != found.best["trial"])
    rows = [("trial", found.metric, "steps", "state", *keys), *(_row(row, keys) for row in order)]
    best = found.folder / "best.yaml"
    values = ", ".join(f"{key} = {found.best[key]}" for key in keys)
    text = f"{table(rows)}\n\nbest: trial {found.best['trial']}, {values}\n{best}; next: cphloc train {best}"
    facts = {"folder": str(found.folder), "metric": found.metric, "best": found.best, "trials": found.trials}
    return Answer(text, {**facts, "recipe": str(best)})


def _row(row: dict[str, Any], keys: list[str]) -> tuple[Any, ...]:
    return row["trial"], number(row["value"], ".4g"), row["steps"] or "-", row["state"], *(row[key] for key in keys)
