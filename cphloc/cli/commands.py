"""The list of commands, in groups, with a one-line summary of each."""

from __future__ import annotations

from collections.abc import Mapping

from cphloc.errors import InputError, did_you_mean

_DESCRIPTION = "A declarative model zoo for localization and segmentation in medical imaging, in 2-D and 3-D."

GROUPS: Mapping[str, Mapping[str, str]] = {
    "see what there is": {
        "list": "list components, recipes and published entries, one line each",
        "show": "show a component's arguments and contract, or an entry's metadata",
        "data": "list data sets, download one, check what is in one, look at a case, or begin a table of your own",
    },
    "use a published entry": {
        "predict": "localize in images; results are saved in each image's own geometry",
        "verify": "check an entry's hashes, its signer, its sample prediction and, with --metrics, its numbers",
        "audit": "list every component and file of an entry or recipe, and prove that none of it is code",
        "response": "measure how one patient's lesions change between scans (volume, diameter, RECIST, doubling time)",
        "screen": "estimate what a model would change in a screening programme",
        "export": "write an entry's network for ONNX, torch, MONAI or nnU-Net, proven equal first",
        "lock": "pin versions and hashes of entries in cphloc.lock",
    },
    "write a recipe": {
        "plan": "write a recipe that fits a data set",
        "check": "report every problem of a recipe at once",
        "describe": "show levels, strides, receptive fields, parameters, multiply-adds and memory of a recipe's model",
        "explain": "show each value of a recipe and where it comes from",
        "diff": "show the values in which two recipes differ",
        "fill": "print a recipe with every default written out",
        "schema": "print the JSON Schema of recipes, for editors",
        "migrate": "rewrite a recipe that uses old names, keeping its comments",
    },
    "train and compare": {
        "train": "train a recipe, log to MLflow, keep the best weights",
        "evaluate": "measure a run or an entry on test cases, with 95 % intervals and a baseline",
        "compare": "put entries or runs side by side, with intervals and a paired test",
        "sweep": "search for the best values of a recipe with Optuna, resumable",
        "study": "run a declared set of recipes x seeds: one table, one figure, one verdict",
        "ui": "open the MLflow UI on the project's store, at the zoo's experiment",
    },
    "publish": {
        "publish": "freeze a run as a version of an entry",
        "push-to-hub": "push an entry to a repository of the Hugging Face Hub, with a model card",
        "import": "make an entry of weights that another framework trained, proven equal",
        "push": "send runs to MLflow that could not be logged while they trained",
        "zoo": "index a zoo folder, for listings, for URLs and for the MLflow comparison",
    },
    "other": {
        "completion": "print a script that completes commands, options and names in a shell",
        "help": "show this list, or the help of one command",
    },
}
"""Every command with its one-line summary, in the order in which people need them."""


def commands() -> list[str]:
    """Return the names of all commands, in the order of ``GROUPS``."""
    return [name for group in GROUPS.values() for name in group]


def known(name: str) -> str:
    """Return ``name`` if it is a command.

    Raises:
        InputError: it is none; the message suggests the nearest one.
    """
    if name not in commands():
        msg = f"unknown command '{name}'; {did_you_mean(name, commands()) or 'see cphloc help'}"
        raise InputError(msg)
    return name


def overview() -> str:
    """Return the help of the whole program: every command in its group, one line each."""
    width = max(map(len, commands()))
    lines = ["usage: cphloc COMMAND ...", "", _DESCRIPTION]
    for title, group in GROUPS.items():
        lines += ["", f"{title}:", *(f"  {name:{width}}  {summary}" for name, summary in group.items())]
    lines += [
        "",
        "cphloc help COMMAND shows the options of a command; cphloc --version the version.",
        "Every command takes --json (print the result as JSON), --quiet (no progress) and --debug (show tracebacks).",
    ]
    return "\n".join(lines) + "\n"
