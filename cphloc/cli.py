"""The command line: finds the command, parses its options, prints its answer, and decides nothing.

Exit codes: 0 done, 1 failed, 2 wrong input.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cphloc import __version__
from cphloc.commands import Answer
from cphloc.errors import CphlocError, InputError, RecipeError, did_you_mean

_DESCRIPTION = "A declarative model zoo for localization and segmentation in medical imaging."


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
    """Names of all commands: the files of ``cphloc/commands``."""
    files = (Path(__file__).parent / "commands").glob("*.py")
    return sorted(f.stem for f in files if f.stem != "__init__")


class Parser(argparse.ArgumentParser):
    """A parser that knows those of its commands."""

    commands: Mapping[str, argparse.ArgumentParser]


def parser(only: str | None = None) -> Parser:
    """The parser of all commands, or of one, so that its siblings are not imported."""
    top = Parser("cphloc", description=_DESCRIPTION, allow_abbrev=False)
    top.add_argument("--version", action="version", version=f"cphloc {__version__}")
    below = top.add_subparsers(parser_class=argparse.ArgumentParser, dest="command", metavar="COMMAND", required=True)
    for name in [only] if only else commands():
        module = importlib.import_module(f"cphloc.commands.{name}")
        summary = (module.__doc__ or "").splitlines()[0].partition(": ")[2].rstrip(".")
        command = below.add_parser(name, help=summary, description=f"{summary}.", allow_abbrev=False)
        module.arguments(command)
        command.add_argument("--json", action="store_true", help="print facts as JSON")
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    top.commands = below.choices
    return top


def _parse(argv: list[str]) -> argparse.Namespace:
    name = argv[0] if argv and not argv[0].startswith("-") else None
    if name is not None and name not in commands():
        msg = f"unknown command '{name}'; {did_you_mean(name, commands()) or 'see cphloc --help'}"
        raise InputError(msg)
    return parser(only=name).parse_args(argv)


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
