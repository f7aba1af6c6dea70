"""``cphloc help``: the list of commands, or the help of one."""

from __future__ import annotations

import argparse

from cphloc.cli.commands import GROUPS, known, overview
from cphloc.cli.result import Answer


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("name", metavar="COMMAND", nargs="?", help="a command; without it, all commands are listed")


def run(options: argparse.Namespace) -> Answer:
    """Return the help text of the program or of one command."""
    if options.name is None:
        return Answer(overview(), GROUPS)
    text = options.parser_of(only=known(options.name)).commands[options.name].format_help()
    return Answer(text, {"command": options.name, "help": text})
