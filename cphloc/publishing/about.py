"""Texts of an entry that a person writes: summary, intended use, limits and changelog."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cphloc.config import yamlio
from cphloc.errors import InputError, did_you_mean
from cphloc.zoo.entry import Entry

if TYPE_CHECKING:
    from cphloc.tracking.run import Run


@dataclass(frozen=True)
class About:
    """Descriptive texts of an entry; empty where none is given.

    Args:
        summary: one line; by default the recipe's description.
        intended_use: intended users and purpose.
        limits: situations in which it is known to fail or was not tested.
        changelog: what is new in this version.
    """

    summary: str = ""
    intended_use: str = ""
    limits: tuple[str, ...] = ()
    changelog: str = ""

    @classmethod
    def gather(cls, given: str | Path | Mapping[str, Any] | None, run: Run, last: Entry | None) -> About:
        """Collect the texts: those given, else the recipe's ``about``, else those of the last version.

        The changelog is never taken from the last version. Without any summary the recipe's description is used.

        Args:
            given: texts by name, as a mapping or a YAML file.
            run: the run to publish.
            last: the newest version of the entry so far.

        Raises:
            InputError: an unknown key, or a value of the wrong type.
        """
        inherited: dict[str, Any] = {"summary": run.recipe.description}
        if last is not None:
            summary = last.summary.removeprefix("Not above its baseline. ")
            inherited = {"summary": summary, "intended_use": last.intended_use, "limits": tuple(last.limits)}
        of_recipe = {key: value for key, value in run.recipe.about.model_dump().items() if value}
        stated = given if isinstance(given, Mapping) else yamlio.load(given).plain if given is not None else {}
        source = "about" if given is None or isinstance(given, Mapping) else str(given)
        return cls(**{**inherited, **_checked(of_recipe, "about"), **_checked(stated, source)})

    def problems(self) -> list[str]:
        """List the texts that are missing."""
        return [
            f"'{name}' is missing: write it under 'about' in the recipe, or in a file given with --about"
            for name in ("summary", "intended_use", "limits", "changelog")
            if not getattr(self, name)
        ]


def _checked(stated: Any, source: str) -> dict[str, Any]:
    known = [f.name for f in fields(About)]
    if not isinstance(stated, Mapping):
        msg = f"{source}: must be a mapping with {', '.join(known)}"
        raise InputError(msg)
    for key, value in stated.items():
        if key not in known:
            msg = f"{source}: unknown key '{key}'; {did_you_mean(key, known) or 'known: ' + ', '.join(known)}"
            raise InputError(msg)
        texts = value if key == "limits" and isinstance(value, list | tuple) else [value]
        if (key == "limits") != isinstance(value, list | tuple) or not all(isinstance(t, str) for t in texts):
            msg = f"{source}: {key}: must be {'a list of sentences' if key == 'limits' else 'text'}, got {value!r}"
            raise InputError(msg)
    return {key: tuple(value) if key == "limits" else value.strip() for key, value in stated.items()}
