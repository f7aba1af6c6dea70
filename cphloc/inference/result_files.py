"""Names of the files in which the result of a case is saved, and the record of finished cases beside them."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from cphloc.files import atomic

RECORDS = ".cphloc"
"""Name of the folder, among the results, with a record of every case."""

PARTS = ("mask", "attention", "uncertainty", "seg", "boxes", "overlay", "result")
"""Parts of a result; each is saved in a file ``<case>_<part>`` with the suffix of its format."""


def is_result(path: Path) -> bool:
    """Return True for a file that an earlier prediction wrote: one named after a part, in a folder with its record.

    Args:
        path: a file, such as ``out/patient_mask.nii.gz`` beside ``out/patient_result.json``.
    """
    stem, _, last = path.name.rpartition("_")
    if not stem or last.partition(".")[0] not in PARTS:
        return False
    return path.with_name(f"{stem}_result.json").is_file() or record_path(path.parent, stem).is_file()


def record_path(folder: str | Path, case: str) -> Path:
    """Return the path of the record of a case whose results are in ``folder``."""
    return Path(folder) / RECORDS / f"{case}.json"


def write_record(path: Path, made_by: Any, row: dict[str, Any] | None) -> None:
    """Write the record of a case.

    Args:
        path: from `record_path`.
        made_by: everything that the result depends on, as JSON values.
        row: the row of a finished case, whose ``files`` are recorded with their hashes; ``None`` before they are
            written.
    """
    hashes = {} if row is None else {file: _sha256(Path(file)) for file in row["files"]}
    with atomic(path) as temporary:
        temporary.write_text(json.dumps({"made_by": made_by, "row": row, "sha256": hashes}), encoding="utf-8")


def remove_record(path: Path) -> None:
    """Remove the record of a case that failed, and the folder of records if it is empty."""
    with suppress(OSError):
        path.unlink()
        path.parent.rmdir()


def finished_row(path: Path, made_by: Any) -> dict[str, Any] | None:
    """Return the row of a case finished with the same ``made_by``, whose files are unchanged, else ``None``.

    Args:
        path: from `record_path`.
        made_by: see `write_record`.
    """
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        same = known["made_by"] == made_by and known["row"] is not None
        whole = same and all(_sha256(Path(file)) == digest for file, digest in known["sha256"].items())
        return known["row"] if whole and list(known["sha256"]) == known["row"]["files"] else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
