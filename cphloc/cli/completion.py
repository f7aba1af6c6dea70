"""``cphloc completion``: a script that completes commands, options and names in a shell."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from cphloc.cli.list import GROUPS
from cphloc.cli.result import Answer
from cphloc.recipe.merge import shipped_recipes
from cphloc.registry import catalogue
from cphloc.registry.kinds import ALL

_BASH = """\
_cphloc() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} words
  if [ "$COMP_CWORD" -eq 1 ]; then words="{commands}"
  else case ${{COMP_WORDS[1]}} in
{cases}
  esac; fi
  COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _cphloc cphloc"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell for which the script is written")
    parser.epilog = 'bash, zsh: eval "$(cphloc completion bash)"; fish: cphloc completion fish | source'


def run(options: argparse.Namespace) -> Answer:
    """Print the completion script of a shell."""
    words = _words(options.parser_of().commands)
    if options.shell == "fish":
        text = _fish(words)
    else:
        cases = "\n".join(f'    {command}) words="{" ".join(found)}" ;;' for command, found in words.items())
        text = _BASH.format(commands=" ".join(words), cases=cases)
        if options.shell == "zsh":
            text = f"autoload -U +X compinit bashcompinit && compinit && bashcompinit\n{text}"
    return Answer(text, {"shell": options.shell, "script": text})


def _words(commands: Mapping[str, argparse.ArgumentParser]) -> dict[str, list[str]]:
    """For each command, the options and names that can follow it."""
    names = [*ALL, *dict.fromkeys(name for kind in ALL for name in catalogue.cards(kind))]
    words = {}
    for command, below in commands.items():
        own = [option for option in below._option_string_actions if option.startswith("--")]
        takes_recipe = any(action.metavar == "RECIPE" for action in below._actions)
        known = {"show": names, "list": GROUPS}.get(command, list(shipped_recipes()) if takes_recipe else [])
        words[command] = [*own, *known]
    return words


def _fish(words: dict[str, list[str]]) -> str:
    lines = [f"complete -c cphloc -n __fish_use_subcommand -a '{' '.join(words)}'"]
    lines += [
        f"complete -c cphloc -n '__fish_seen_subcommand_from {command}' -a '{' '.join(found)}'"
        for command, found in words.items()
    ]
    return "\n".join(lines)
