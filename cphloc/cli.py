"""The command line: finds the command, parses its options, prints its answer, and decides nothing.

Exit codes: 0 done, 1 failed, 2 wrong input.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from cphloc import __version__
from cphloc.commands import Answer
from cphloc.errors import CphlocError, InputError, RecipeError, did_you_mean

_DESCRIPTION = "A declarative model zoo for localization and segmentation in medical imaging, in 2-D and 3-D."

GROUPS: Mapping[str, Mapping[str, str]] = {
    "see what there is": {
        "list": "list components, recipes and published entries, one line each",
        "show": "show a component's arguments and contract, or an entry's metadata",
        "data": "list data sets with licence and folder, or download one",
    },
    "use a published entry": {
        "predict": "localize in images; results are saved in each image's own geometry",
        "verify": "check an entry's hashes, its sample prediction and, with --metrics, its numbers",
        "audit": "prove that an entry or a recipe holds no code",
        "response": "measure how one patient's lesions change between scans (volume, diameter, RECIST, doubling time)",
        "screen": "estimate what a model would change in a screening programme",
        "export": "write an entry's network as ONNX, proven equal to torch first",
        "lock": "pin versions and hashes of entries in cphloc.lock",
    },
    "write a recipe": {
        "plan": "write a recipe that fits a data set",
        "check": "report every problem of a recipe at once",
        "describe": "show levels, strides, receptive fields, parameters, work and memory of a recipe's model",
        "explain": "show each value of a recipe and where it comes from",
        "diff": "show the values in which two recipes differ",
        "fill": "print a recipe with every default written out",
        "schema": "print the JSON Schema of recipes, for editors",
        "migrate": "rewrite a recipe that uses old names, keeping its comments",
    },
    "train and compare": {
        "train": "train a recipe, log to MLflow, keep the best weights",
        "evaluate": "measure a run or an entry, with 95 % intervals and a baseline",
        "compare": "put entries or runs side by side, with intervals and a paired test",
        "study": "run a declared set of recipes x seeds: one table, one figure, one verdict",
        "ui": "open the MLflow UI on the project's store, at the zoo's experiment",
    },
    "publish": {
        "publish": "freeze a run as a version of an entry",
        "push": "send runs to MLflow that could not be logged while they trained",
        "zoo": "index a zoo folder, for listings, for URLs and for the MLflow comparison",
    },
    "other": {
        "completion": "print a script that completes commands, options and names in a shell",
        "help": "show this list, or the help of one command",
    },
}
"""Every command with its one-line summary, in the order in which people need them."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    # Plug-ins of pydantic are looked for in every installed package, which takes as long as most commands.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    options = argparse.Namespace(debug="--debug" in argv, json="--json" in argv)
    try:
        options = _parse(argv)
        answer = importlib.import_module(f"cphloc.commands.{options.command}").run(options)
        _print(answer, options.json)
        return answer.exit_code
    except CphlocError as error:
        if options.debug:
            raise
        _print_error(error, options.json)
        return error.exit_code
    except BrokenPipeError:
        # The reader of our output has gone, as after `| head`; Python would complain again while it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if options.debug:
            raise
        print(f"{type(error).__name__}: {error}; run it again with --debug to see where", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 1


def commands() -> list[str]:
    """Return the names of all commands, in the order of ``GROUPS``."""
    return [name for group in GROUPS.values() for name in group]


class _Formatter(argparse.HelpFormatter):
    """Prints help as it is written: argparse would read ``%`` as the start of a format."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help.replace("%", "%%") if action.help else action.help


class Parser(argparse.ArgumentParser):
    """The parser of one command, or of the whole program, whose help lists the commands in groups."""

    commands: Mapping[str, argparse.ArgumentParser] | None = None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, allow_abbrev=False, formatter_class=_Formatter, **options)

    def format_help(self) -> str:
        """Return the help text; that of the whole program has a line for every command."""
        return super().format_help() if self.commands is None else overview()


def overview() -> str:
    """Return the help of the whole program: every command in its group, one line each."""
    width = max(map(len, commands()))
    lines = ["usage: cphloc COMMAND ...", "", _DESCRIPTION]
    for title, group in GROUPS.items():
        lines += ["", f"{title}:", *(f"  {name:{width}}  {summary}" for name, summary in group.items())]
    lines += [
        "",
        "cphloc help COMMAND shows the options of a command; cphloc --version the version.",
        "Every command takes --json (print facts as JSON) and --debug (show the traceback of an error).",
    ]
    return "\n".join(lines) + "\n"


def parser(only: str | None = None) -> Parser:
    """Build the parser of all commands, or of one, so that its siblings are not imported."""
    top = Parser("cphloc")
    top.add_argument("--version", action="version", version=f"cphloc {__version__}")
    below = top.add_subparsers(parser_class=Parser, dest="command", metavar="COMMAND", required=True)
    for group in GROUPS.values():
        for name, summary in group.items():
            if only in (None, name):
                module = importlib.import_module(f"cphloc.commands.{name}")
                command = below.add_parser(name, description=f"{summary[0].upper()}{summary[1:]}.")
                module.arguments(command)
                command.add_argument("--json", action="store_true", help="print facts as JSON")
                command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    top.commands = below.choices
    return top


def _parse(argv: list[str]) -> argparse.Namespace:
    name = argv[0] if argv and not argv[0].startswith("-") else None
    if name is not None and name not in commands():
        msg = f"unknown command '{name}'; {did_you_mean(name, commands()) or 'see cphloc help'}"
        raise InputError(msg)
    return parser(only=name or "help").parse_args(argv or ["help"])


def _print(answer: Answer, as_json: bool) -> None:
    text = _json(answer.facts) if as_json and answer.facts is not None else answer.text
    if text:
        print(text.removesuffix("\n"), flush=True)


def _print_error(error: CphlocError, as_json: bool) -> None:
    if not as_json:
        print(error, file=sys.stderr)
        return
    problems = [vars(p) for p in error.problems] if isinstance(error, RecipeError) else []
    print(_json({"error": str(error), "problems": problems}), flush=True)


def _json(facts: Any) -> str:
    import json

    return json.dumps(facts, indent=2, default=str)


if __name__ == "__main__":
    sys.exit(main())
