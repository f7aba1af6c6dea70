"""The entry point: parse the command line, run the command, print its answer or error, return the exit code.

Exit codes: 0 done, 1 failed, 2 wrong input.
"""

from __future__ import annotations

import argparse
import errno
import gc
import importlib
import io
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, NoReturn

from cphloc import __version__
from cphloc.cli.commands import GROUPS, known, overview
from cphloc.cli.messages import safe_messages
from cphloc.cli.result import Answer
from cphloc.config import jsonio
from cphloc.errors import CphlocError, RecipeError, did_you_mean, needs, printable, without_secrets
from cphloc.files import unwritable
from cphloc.progress import quiet

_SHORT = frozenset({*GROUPS["see what there is"], *GROUPS["write a recipe"]})
"""Commands that end before their garbage matters."""
_OBJECTS = 100_000
"""Objects between two searches for reference cycles in a short command; Python's 700 take a fifth of its time."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        argv: the words after ``cphloc``; ``None``: those of this process, which ends afterwards.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if argv is None:
        _keep_children_from_working_folder()
    if not (words and words[0] in _SHORT):
        return _main(words)
    before = gc.get_threshold()
    gc.set_threshold(_OBJECTS, *before[1:])
    try:
        return _main(words)
    finally:
        gc.set_threshold(*before)
        if argv is None and "torch" not in sys.modules:  # libraries of torch report what is not searched as leaks
            gc.freeze()  # at its exit Python searches all objects for cycles once more, for nothing


def _keep_children_from_working_folder() -> None:
    """Keep child processes from importing files of the working folder, such as ``copy.py``, unless this one does too.

    Python would look there first for the modules of processes that are started with ``-c`` or ``-m``.
    """
    with suppress(OSError):  # a working folder that was removed
        if Path.cwd() not in map(Path.absolute, map(Path, sys.path)):
            os.environ.setdefault("PYTHONSAFEPATH", "1")


def _main(argv: list[str]) -> int:
    for stream in (sys.stdout, sys.stderr):  # a terminal without UTF-8, or a name that is not UTF-8
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # Plug-ins of pydantic are looked for in every installed package, which takes as long as most commands.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    options = argparse.Namespace(debug="--debug" in argv, json="--json" in argv)
    try:
        options = _parse(argv)
        with safe_messages(), quiet() if options.quiet else nullcontext(), needs(f"cphloc {options.command}"):
            answer = _module(options.command).run(options)
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
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS):
            print(unwritable(Path(os.fsdecode(error.filename or "the output")), error), file=sys.stderr)
            return 1
        text = printable(without_secrets(f"{type(error).__name__}: {error}"))
        print(f"{text}; run it again with --debug to see where", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 1


class _Formatter(argparse.HelpFormatter):
    """Prints help as it is written: argparse would read ``%`` as the start of a format."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help.replace("%", "%%") if action.help else action.help

    def _split_lines(self, text: str, width: int) -> list[str]:
        """Break lines between words only, not at the hyphen of a name."""
        import textwrap

        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        """Keep the lines of a text that has several, such as a table."""
        if "\n" in text:
            return "".join(f"{indent}{line}\n" for line in text.splitlines())
        return super()._fill_text(text, width, indent)


class Parser(argparse.ArgumentParser):
    """The parser of one command, or of the whole program, whose help lists the commands in groups."""

    commands: Mapping[str, argparse.ArgumentParser] | None = None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, allow_abbrev=False, formatter_class=_Formatter, **options)

    def format_help(self) -> str:
        """Return the help text; that of the whole program has a line for every command."""
        return super().format_help() if self.commands is None else overview()

    def error(self, message: str) -> NoReturn:
        """Exit with one line: what is wrong, the nearest option of that name, and where the options are listed."""
        below = self.commands or {self.prog.partition(" ")[2]: self}
        near = ""
        if message.startswith("unrecognized arguments: "):
            near = did_you_mean(message.split()[2], (o for one in below.values() for o in one._option_string_actions))
        see = f"see cphloc help {next(iter(below))}" if len(below) == 1 else "see cphloc help"
        self.exit(2, f"{self.prog}: {message}; {near or see}\n")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            near = did_you_mean(str(value), map(str, action.choices)) or f"choose from {', '.join(action.choices)}"
            msg = f"unknown value '{value}'; {near}"
            raise argparse.ArgumentError(action, msg)


def parser(only: str | None = None) -> Parser:
    """Build the parser of all commands, or of one, so that its siblings are not imported."""
    top = Parser("cphloc")
    top.add_argument("--version", action="version", version=f"cphloc {__version__}")
    below = top.add_subparsers(parser_class=Parser, dest="command", metavar="COMMAND", required=True)
    for name, summary in (item for group in GROUPS.values() for item in group.items() if only in (None, item[0])):
        command = below.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        _module(name).arguments(command)
        command.add_argument("--json", action="store_true", help="print the result as JSON")
        command.add_argument("--quiet", action="store_true", help="show no progress on the error stream")
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")
        command.set_defaults(parser_of=parser)  # for the commands about commands, which cannot import this file
    top.commands = below.choices
    return top


def _module(command: str) -> Any:
    return importlib.import_module(f"cphloc.cli.{command.replace('-', '_')}")


def _parse(argv: list[str]) -> argparse.Namespace:
    name = known(argv[0]) if argv and not argv[0].startswith("-") else "help"
    return parser(only=name).parse_args(argv or ["help"])


def _print(answer: Answer, as_json: bool) -> None:
    text = _json(answer.facts) if as_json and answer.facts is not None else printable(answer.text)
    if text:
        print(text.removesuffix("\n"), flush=True)


def _print_error(error: CphlocError, as_json: bool) -> None:
    if not as_json:
        print(error, file=sys.stderr)
        return
    problems = [vars(p) for p in error.problems] if isinstance(error, RecipeError) else []
    print(_json({"error": str(error), "problems": problems}), flush=True)


def _json(facts: Any) -> str:
    return jsonio.dumps(facts, indent=2, default=str)
