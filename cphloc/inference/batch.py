"""Predict many cases; a case that fails does not stop the others, and finished cases are skipped."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cphloc.data.io.formats import split_series
from cphloc.data.io.source_files import content_digest
from cphloc.errors import CphlocError, DataError, InputError
from cphloc.inference.batch_cases import Case, cases_of
from cphloc.inference.result_files import finished_row, record_path, remove_record, write_record
from cphloc.structures.merging import of_part

if TYPE_CHECKING:
    from cphloc.inference.ensemble import Ensemble
    from cphloc.inference.localizer import Localizer

__all__ = ["Case", "cases_of", "failed_row", "predict_cases"]


def predict_cases(
    model: Localizer | Ensemble,
    cases: Sequence[Case],
    out: str | Path,
    spacing_mm: Sequence[float] | None = None,
    redo: bool = False,
    progress: Callable[[Iterable[Case]], Iterable[Case]] = iter,
    **options: Any,
) -> Iterator[dict[str, Any]]:
    """Predict every case and save its results; yields one row per case.

    A case is skipped if ``out`` already has its results, undamaged, from the same model, input and options.

    Args:
        model: from `cphloc.load`.
        cases: from `cases_of`.
        out: folder for the results.
        spacing_mm: see `Localizer.predict`.
        redo: predict finished cases again.
        progress: wraps the cases, to show a progress bar.
        options: further arguments of `Localizer.predict`.

    Returns:
        rows with ``case``, ``input``, ``status`` (``done``, ``kept`` or ``failed``), ``seconds``, ``error``, ``files``,
        and the entries of `Localization.summary`.

    Raises:
        InputError: the options do not suit the model.
    """
    model.check_options(**options)
    options["spacing_mm"] = spacing_mm
    for case in progress(cases):
        if case.problem:
            yield failed_row(case, case.problem, wrong_input=True)
            continue
        own = {**options, "units": {**(options.get("units") or {}), **case.units}}
        made_by = _made_by(model, case, own)
        record = record_path(out, case.name)
        kept = None if redo else finished_row(record, made_by)
        yield {**kept, "status": "kept"} if kept is not None else _predict(model, case, out, record, made_by, own)


def failed_row(case: Case, error: str, wrong_input: bool = False) -> dict[str, Any]:
    """Return the row of a case that could not be predicted.

    Args:
        case: the case.
        error: what is wrong, and what to do.
        wrong_input: whether the input is the cause, not the machine or the model.
    """
    row = {"case": case.name, "input": case.source, "status": "failed", "seconds": 0.0, "error": error}
    return row | ({"wrong_input": True} if wrong_input else {})


def _predict(
    model: Localizer | Ensemble, case: Case, out: str | Path, record: Path, made_by: Any, options: Mapping
) -> dict[str, Any]:
    """Predict one case, save its results and return its row; errors are recorded in the row."""
    started = time.perf_counter()
    row = {"case": case.name, "input": case.source, "status": "done", "seconds": 0.0, "error": ""}
    try:
        result = replace(model.predict(case.source, **options), case=case.name)
        write_record(record, made_by, None)
        row |= {"files": [str(file) for file in result.save(out)], **result.summary()}
        row["classes"] = {str(number): name for number, name in of_part(result.classes, "mask").items()}
        row["seconds"] = round(time.perf_counter() - started, 3)
        write_record(record, made_by, row)
    except Exception as error:  # one image that makes the model fail must not stop the others
        remove_record(record)
        row = failed_row(case, _reason(case, error), isinstance(error, InputError))
        row["seconds"] = round(time.perf_counter() - started, 3)
    return row


def _reason(case: Case, error: Exception) -> str:
    """Message of an error, with the input that it belongs to."""
    if isinstance(error, CphlocError):
        text = str(error)
        return text if any(str(split_series(file)[0]) in text for file in case.files) else f"{case.files[0]}: {text}"
    return f"{case.files[0]}: {type(error).__name__}: {error}"


def _made_by(model: Localizer | Ensemble, case: Case, options: Mapping) -> Any:
    """Return everything that a result depends on, as JSON values: weights, input files, voxel size and options.

    The number of windows computed at once changes nothing but rounding.
    """
    weights = [member.fingerprint for member in getattr(model, "members", [model])]
    contents = [[str(Path(file).absolute()), _content(file)] for file in case.files]
    decisive = sorted((name, value) for name, value in options.items() if name != "window_batch")
    return json.loads(json.dumps([weights, contents, decisive], default=str))


def _content(source: str) -> str:
    """Hash of everything that is read for an image; empty where it cannot be read, which its prediction reports."""
    try:
        return content_digest(source).hex()
    except DataError:
        return ""
