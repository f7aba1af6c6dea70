"""The options of an entry's predictions in words: what is applied, what was tried, and with what gain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cphloc.errors import counted
from cphloc.publishing.markdown import table
from cphloc.structures.options import TRIAL_COLUMNS, ChosenOptions, Options, trial_row


def options_text(chosen: ChosenOptions) -> list[str]:
    """Write what a prediction applies besides the weights, and every option that was tried, as Markdown blocks."""
    applied = [f"`{name}` {_applied(value)}" for name, value in chosen.options.stated.items()]
    text = f"A prediction applies {'; '.join(applied)}." if applied else "A prediction applies the weights alone."
    if chosen.sizes is not None:
        errors = ", ".join(f"{name} {e:.2f} ({chosen.sizes.patients[name]})" for name, e in chosen.sizes.errors.items())
        text += (
            f" Measured sizes come with {100 * chosen.sizes.level:g} % prediction intervals (split conformal); error in"
            f" {chosen.sizes.unit} of the edge of a cube or square of the same size, by class (patients): {errors}."
        )
    if not chosen.trials:
        return [text]
    cases = f"{counted(chosen.cases, 'case')} of {counted(chosen.patients, 'patient')}"
    tried = f"Each option was tried {where(chosen)} ({cases}), never on test cases"
    if chosen.split == "out-of-fold":
        tried += "; the metrics above are of the same cases, and therefore of predictions without options"
    rows = [trial_row(trial.model_dump()) for trial in chosen.trials]
    return [f"{text} {tried}:", table(TRIAL_COLUMNS, rows)]


def where(chosen: ChosenOptions) -> str:
    """Say on which cases options were chosen.

    >>> where(ChosenOptions(split="out-of-fold"))
    'out of fold'
    """
    return "out of fold" if chosen.split == "out-of-fold" else f"on the {chosen.split} split"


def options_with_gain(applied: Options, chosen: ChosenOptions | None) -> list[str]:
    """Describe each option that predictions apply, with its gain where it is known.

    Args:
        applied: the options of an entry.
        chosen: how they were chosen; ``None`` for entries of earlier versions, which state no gain.

    >>> options_with_gain(Options(thresholds={"boxes": 0.25}), None)
    ['thresholds boxes 0.25']
    """
    if chosen is None:
        return [f"{name} {_applied(value)}" for name, value in applied.stated.items()]
    rows = [trial_row(trial.model_dump()) for trial in chosen.trials if trial.kept]
    return [f"{name} {value}: {metric} {gain}" for name, value, metric, _, _, gain, *_ in rows]


def _applied(value: Any) -> str:
    """Value of an option in words.

    >>> _applied({"boxes": 0.25}), _applied(["liver"]), _applied(True)
    ('boxes 0.25', 'liver', 'yes')
    """
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {number:g}" for name, number in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(value) if isinstance(value, list) else f"{value:.3g}" if isinstance(value, float) else str(value)
