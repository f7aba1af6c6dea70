"""Predict many cases; a case that fails does not stop the others, and finished cases are skipped."""

from __future__ import annotations

import glob
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cphloc.data.io.formats import DICOM
from cphloc.data.io.table import read_table
from cphloc.errors import CphlocError, DataError, InputError, NotFoundError
from cphloc.inference.localizer import case_name, image_suffix
from cphloc.paths import atomic

if TYPE_CHECKING:
    from cphloc.inference.ensemble import Ensemble
    from cphloc.inference.localizer import Localizer

RECORDS = ".cphloc"
"""Name of the folder, among the results, that records which cases are finished."""


@dataclass(frozen=True)
class Case:
    """One image to predict.

    Args:
        name: start of the file names of its results.
        source: a file, a DICOM folder, or a file for each channel by channel name.
    """

    name: str
    source: str | dict[str, str]


def cases_of(inputs: Sequence[str]) -> list[Case]:
    """Find the cases that command-line inputs refer to.

    Args:
        inputs: each is an image file; a DICOM folder; a folder of these; a pattern with ``*`` or ``?``; a ``.csv`` file
            with one row per case, a column ``image`` or one per channel, and optionally ``case``; or
            ``ct=FILE,pet=FILE``.

    Returns:
        cases with unique names: equal names get the name of their folder as prefix, and then a number as suffix.

    Raises:
        NotFoundError: no file matches a pattern, or a CSV file cannot be read.
    """
    cases = [case for text in inputs for case in _cases(text)]
    cases = [replace(c, name=n) for c, n in zip(cases, _unique_names(cases, _with_folder), strict=True)]
    return [replace(c, name=n) for c, n in zip(cases, _unique_names(cases, _with_number), strict=True)]


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

    A case is skipped if ``out`` already has its results from the same model, input and options.

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
    if options.get("tta"):
        model.mirrored_axes()
    for case in progress(cases):
        made_by = _made_by(model, case, spacing_mm, options)
        record = Path(out) / RECORDS / f"{case.name}.json"
        kept = None if redo else _finished(record, made_by)
        if kept is not None:
            yield {**kept, "status": "kept"}
            continue
        row = _predict(model, case, out, spacing_mm, options)
        if row["status"] == "done":
            with atomic(record) as temporary:
                temporary.write_text(json.dumps({"made_by": made_by, "row": row}), encoding="utf-8")
        yield row


def _predict(
    model: Localizer | Ensemble, case: Case, out: str | Path, spacing_mm: Sequence[float] | None, options: Mapping
) -> dict[str, Any]:
    """Predict one case, save its results and return its row; errors are recorded in the row."""
    started = time.perf_counter()
    row = {"case": case.name, "input": case.source, "status": "done", "seconds": 0.0, "error": ""}
    try:
        result = replace(model.predict(case.source, spacing_mm, **options), case=case.name)
        row |= {"files": [str(file) for file in result.save(out)], **result.summary()}
    except DataError as error:
        row |= {"status": "failed", "error": str(error), "wrong_input": True}
    except InputError:
        raise
    except Exception as error:  # one image that makes the model fail must not stop the others
        text = str(error) if isinstance(error, CphlocError) else f"{type(error).__name__}: {error}"
        row |= {"status": "failed", "error": text}
    return row | {"seconds": round(time.perf_counter() - started, 3)}


def _made_by(model: Localizer | Ensemble, case: Case, spacing_mm: Sequence[float] | None, options: Mapping) -> Any:
    """Return everything that a result depends on, as JSON values: weights, input files, voxel size and options."""
    entries = [member.entry for member in getattr(model, "members", [model])]
    weights = [None if entry is None else [str(entry), entry.weights.sha256] for entry in entries]
    files = case.source.values() if isinstance(case.source, dict) else [case.source]
    stamps = [[str(Path(file).resolve()), *_stamp(Path(file))] for file in files]
    return json.loads(json.dumps([weights, stamps, spacing_mm, sorted(options.items())], default=str))


def _stamp(path: Path) -> tuple[int, int]:
    """Size in bytes and time of the last change of a file, or of all files in a folder."""
    files = [f for f in path.rglob("*") if f.is_file()] if path.is_dir() else [path] if path.is_file() else []
    stats = [file.stat() for file in files]
    return sum(s.st_size for s in stats), max((s.st_mtime_ns for s in stats), default=0)


def _finished(record: Path, made_by: Any) -> dict[str, Any] | None:
    """Row of a case that was finished with the same ``made_by`` and whose files all exist; otherwise ``None``."""
    try:
        known = json.loads(record.read_text(encoding="utf-8"))
        same = known["made_by"] == made_by and all(Path(file).is_file() for file in known["row"]["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return known["row"] if same else None


def _cases(text: str) -> Iterator[Case]:
    """Cases of one input of `cases_of`."""
    path = Path(text).expanduser()
    parts = [part.partition("=") for part in text.split(",")]
    if not path.exists() and all(sign for _, sign, _ in parts):
        yield Case(case_name(parts[0][2]), {name: file for name, _, file in parts})
    elif not path.exists() and glob.has_magic(text):
        matches = sorted(glob.glob(str(path), recursive=True))
        if not matches:
            msg = f"{text}: no file matches this pattern; put it in quotes and check the spelling"
            raise NotFoundError(msg)
        for match in matches:
            yield from _cases(match)
    elif path.suffix.lower() in (".csv", ".tsv"):
        yield from _listed(path)
    elif path.is_dir():
        yield from _in_folder(path)
    else:
        yield Case(case_name(text), text)


def _in_folder(folder: Path) -> Iterator[Case]:
    """Cases in a folder: one per image file, and one per folder of DICOM files."""
    inside = [p for p in sorted(folder.iterdir()) if not p.name.startswith(".")]
    images = [p for p in inside if p.is_file() and image_suffix(p.name) not in ("", *DICOM.read)]
    folders = [p for p in inside if p.is_dir()]
    if not images and not folders:
        yield Case(folder.resolve().name, str(folder))  # a DICOM series; otherwise reading it raises an error
        return
    yield from (Case(case_name(str(image)), str(image)) for image in images)
    for below in folders:
        yield from _in_folder(below)


def _listed(path: Path) -> Iterator[Case]:
    """Cases of a table, one per row; paths are relative to the file."""
    for row in read_table(path, needed=()):
        files = {key: str(path.parent / value) for key, value in row.items() if key != "case" and value}
        if not files:
            msg = f"{path}:{row.line}: contains no image; give a column 'image', or one for each channel"
            raise NotFoundError(msg)
        source = files["image"] if list(files) == ["image"] else files
        yield Case(row.get("case") or case_name(next(iter(files.values()))), source)


def _unique_names(cases: Sequence[Case], rename: Callable[[Case, int], str]) -> list[str]:
    """Names of the cases; those that several cases share are replaced by ``rename(case, count)``."""
    many, seen = Counter(case.name for case in cases), Counter()
    names = []
    for case in cases:
        seen[case.name] += 1
        names.append(rename(case, seen[case.name]) if many[case.name] > 1 else case.name)
    return names


def _with_folder(case: Case, number: int) -> str:
    """Name of a case with the name of its folder as prefix."""
    file = next(iter(case.source.values())) if isinstance(case.source, dict) else case.source
    return f"{Path(file).resolve().parent.name}-{case.name}"


def _with_number(case: Case, number: int) -> str:
    """Name of a case with a number as suffix."""
    return f"{case.name}-{number}"
