"""``cphloc completion``: a script that completes commands, options and names in a shell, written by shtab."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import Any

from cphloc.cli.list import GROUPS
from cphloc.cli.result import Answer
from cphloc.recipe.merge import shipped_recipes
from cphloc.registry import catalogue
from cphloc.registry.kinds import ALL

SHELLS = ("bash", "zsh", "fish", "tcsh", "powershell")

_RECIPES = """
_cphloc_recipes() {{
  compgen -W "{names}" -- "$1"
  compgen -f -- "$1"
}}"""
"""Function of bash that completes the names of shipped recipes and files."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("shell", choices=SHELLS, help="the shell for which the script is written")
    parser.epilog = (
        'bash: eval "$(cphloc completion bash)"; zsh: cphloc completion zsh > ~/.zfunc/_cphloc, a folder of $fpath; '
        "fish: cphloc completion fish | source"
    )


def run(options: argparse.Namespace) -> Answer:
    """Print the completion script of a shell."""
    import shtab

    parser = options.parser_of()
    names = [*ALL, *dict.fromkeys(name for kind in ALL for name in catalogue.cards(kind))]
    for command, below in parser.commands.items():
        known = {"show": names, "list": list(GROUPS)}.get(command, ())
        for action in below._actions:
            _complete(action, known)
    recipes = _RECIPES.format(names=" ".join(shipped_recipes()))
    preamble: Any = {"bash": recipes}  # annotated as text, documented as a mapping
    text = shtab.complete(parser, options.shell, root_prefix="cphloc", preamble=preamble)
    return Answer(text, {"shell": options.shell, "script": text})


def _complete(action: argparse.Action, names: Iterable[str]) -> None:
    """Set what completes the value of an argument: names, names of recipes and files, or files."""
    if action.option_strings or action.choices is not None:
        return
    if names:
        action.choices = list(names)
    elif action.metavar == "RECIPE":
        setattr(action, "complete", {"bash": "_cphloc_recipes", "zsh": "_files", "tcsh": "f"})  # noqa: B010
    else:
        import shtab

        setattr(action, "complete", shtab.FILE)  # noqa: B010  (an attribute that shtab reads)
