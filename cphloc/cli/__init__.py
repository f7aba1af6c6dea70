"""The command line: one file a command."""

from cphloc.cli.main import main

__all__ = ["main"]
