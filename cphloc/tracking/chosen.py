"""The options that were chosen for the weights of a run, kept in its folder."""

from __future__ import annotations

import json
from collections.abc import Mapping

from pydantic import ValidationError

from cphloc.config import jsonio
from cphloc.errors import DataError
from cphloc.files import atomic
from cphloc.structures.options import ChosenOptions
from cphloc.tracking.run import Run

FILE = "options.json"
"""Name of the file in the folder of a run."""


def read_options(run: Run, contents: Mapping[str, str] | None = None) -> ChosenOptions | None:
    """Read the options of a run.

    Args:
        run: the run.
        contents: id -> content hash of the cases to choose on now; ``None`` accepts those of before.

    Returns:
        ``None`` where none were chosen, or for other weights or other cases.

    Raises:
        DataError: the file is damaged.
    """
    path = run.folder / FILE
    if not path.is_file():
        return None
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        known = {key: stored[key] for key in ("weights_sha256", "contents")}
        chosen = ChosenOptions.model_validate(stored["chosen"])
    except (ValueError, KeyError, TypeError, RecursionError, ValidationError) as error:
        msg = f"{path}: is damaged ({type(error).__name__}); remove it, and run: cphloc evaluate {run.folder} --choose"
        raise DataError(msg) from None
    same = known["weights_sha256"] == run.weights_sha256
    return chosen if same and contents in (None, known["contents"]) else None


def write_options(run: Run, chosen: ChosenOptions, contents: Mapping[str, str]) -> None:
    """Write the options of a run.

    Args:
        run: the run.
        chosen: the options.
        contents: id -> content hash of the cases that they were chosen on.
    """
    facts = {
        "weights_sha256": run.weights_sha256,
        "contents": dict(contents),
        "chosen": chosen.model_dump(),
    }
    run.folder.mkdir(parents=True, exist_ok=True)
    with atomic(run.folder / FILE) as temporary:
        temporary.write_text(jsonio.dumps(facts, indent=1) + "\n", encoding="utf-8")
