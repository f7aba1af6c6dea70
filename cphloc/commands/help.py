"""``cphloc help``: the list of commands, or the help of one."""

from __future__ import annotations

import argparse

from cphloc.commands import Answer
from cphloc.errors import InputError, did_you_mean


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("name", metavar="COMMAND", nargs="?", help="a command; default: list all")


def run(options: argparse.Namespace) -> Answer:
    """Return the help text of the program or of one command."""
    from cphloc import cli

    if options.name is None:
        return Answer(cli.overview(), cli.GROUPS)
    if options.name not in cli.commands():
        msg = f"unknown command '{options.name}'; {did_you_mean(options.name, cli.commands()) or 'see cphloc help'}"
        raise InputError(msg)
    text = (cli.parser(only=options.name).commands or {})[options.name].format_help()
    return Answer(text, {"command": options.name, "help": text})
