"""``cphloc train``: train a recipe, log to MLflow, keep the best weights."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cphloc.cli.result import SET_HELP, UNDEFINED, Answer, number, overrides, table
from cphloc.errors import InputError


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("recipe", metavar="RECIPE", nargs="?", help="a YAML file, or the name of a shipped recipe")
    parser.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], help=SET_HELP)
    parser.add_argument(
        "--fold",
        metavar="k/n",
        help="hold out the k-th of n folds of the training and validation cases, such as 1/5; test cases are not used",
    )
    parser.add_argument(
        "--cross-validate",
        type=int,
        metavar="N",
        help="train one network per fold and predict every case with the one that has not seen it",
    )
    parser.add_argument("--resume", metavar="RUN", help="continue an interrupted run, given by id or folder")
    parser.add_argument(
        "--devices", type=int, default=1, metavar="N", help="training processes (GPUs) on this machine; default 1"
    )
    parser.add_argument(
        "--nodes",
        type=int,
        default=1,
        metavar="N",
        help="number of machines; start the command on each with torchrun; default 1",
    )
    shared = "with several processes, each holds the whole model (ddp, the default) or a part of it (fsdp)"
    parser.add_argument("--strategy", choices=("ddp", "fsdp"), default="ddp", help=shared)
    parser.add_argument(
        "--profile",
        action="store_true",
        help="also measure where the time of a step goes: data, forward, backward, ...",
    )
    before = parser.add_mutually_exclusive_group()
    before.add_argument(
        "--find-lr", action="store_true", help="do not train: suggest a learning rate, and draw the curve of the loss"
    )
    before.add_argument(
        "--overfit", action="store_true", help="do not train: check that the model can overfit one batch"
    )


def run(options: argparse.Namespace) -> Answer:
    """Train, and print the best metrics and the folder of the run; or run one of the checks before training."""
    if options.find_lr or options.overfit:
        if options.resume or options.devices * options.nodes > 1:
            msg = "--find-lr and --overfit try out a recipe in one process; leave --resume, --devices, --nodes out"
            raise InputError(msg)
        return _find_lr(options) if options.find_lr else _overfit(options)
    from cphloc.distributed import processes
    from cphloc.training.train import train

    scale = {"devices": options.devices, "nodes": options.nodes, "strategy": options.strategy}
    if options.cross_validate is not None or _resumes_cross_validation(options):
        return _cross_validate(options, scale)
    trained = train(
        options.recipe, overrides(options), fold=options.fold, resume=options.resume, profile=options.profile, **scale
    )
    if not processes.is_first():  # of several processes only the first prints
        return Answer("", None)
    facts = {"run": trained.id, "folder": str(trained.folder), "metrics": trained.metrics}
    rows = [(name, number(value, ".4g")) for name, value in trained.metrics.items()]
    undefined = [UNDEFINED] if any(shown == "-" for _, shown in rows) else []
    profile = _profile(trained.folder, facts) if options.profile else []
    return Answer("\n".join([table(rows), *undefined, *profile, f"\nrun {trained.id} in {trained.folder}"]), facts)


def _profile(folder: Path, facts: dict[str, Any]) -> list[str]:
    """Return the lines about the steps of a run, and add them to the facts; none of a pipeline, which has no steps."""
    from cphloc.training.step_profile import FILE, StepProfile

    if not (folder / FILE).is_file():
        return []
    found = StepProfile.read(folder)
    facts["profile"] = asdict(found)
    return ["", table(found.rows()), found.note()]


def _resumes_cross_validation(options: argparse.Namespace) -> bool:
    from cphloc.tracking.run import Run

    return options.resume is not None and Run.open(options.resume).is_cross_validation


def _cross_validate(options: argparse.Namespace, scale: dict[str, Any]) -> Answer:
    """Cross-validate, and print the out-of-fold metrics and the folder."""
    if options.fold is not None:
        msg = "--fold trains one fold and --cross-validate all of them; leave one out"
        raise InputError(msg)
    from cphloc.distributed import processes
    from cphloc.training.cross_validation import Scale, cross_validate

    chosen = overrides(options)
    run = cross_validate(options.recipe, options.cross_validate, chosen, resume=options.resume, scale=Scale(**scale))
    if not processes.is_first():
        return Answer("", None)
    from cphloc.cli.evaluate import answer
    from cphloc.evaluation.evaluate import evaluate

    printed = answer(evaluate(run))
    facts = {"run": run.id, "folder": str(run.folder), "metrics": run.metrics, "evaluation": printed.facts}
    return Answer(f"{printed.text}\n\ncross-validation {run.id} in {run.folder}", facts)


def _find_lr(options: argparse.Namespace) -> Answer:
    from cphloc.training.find_lr import find_lr

    found = find_lr(options.recipe, overrides(options))
    facts = {"lr": found.suggestion, "rates": found.rates.tolist(), "losses": found.losses.tolist()}
    facts["picture"] = str(found.picture)
    if found.suggestion is None:
        why = "no learning rate makes the loss fall; try --overfit, which says whether the model can learn at all"
        return Answer(f"{why}\n{found.picture}", facts, exit_code=1)
    return Answer(f"--set train.optimizer.lr={found.suggestion:.1e}\n{found.picture}", facts)


def _overfit(options: argparse.Namespace) -> Answer:
    from cphloc.training.overfit import overfit

    found = overfit(options.recipe, overrides(options))
    return Answer(str(found), asdict(found) | {"passed": found.passed}, exit_code=0 if found.passed else 1)
