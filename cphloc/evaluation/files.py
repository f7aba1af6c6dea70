"""Write the files of an evaluation: metrics, one row per case, curves and pictures of cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cphloc.config import jsonio
from cphloc.data.case import Case, read_case
from cphloc.evaluation.pictures import draw_case, drawing, extremes, heading
from cphloc.evaluation.plots import draw_scores
from cphloc.evaluation.prediction import case_prediction
from cphloc.evaluation.scores import Scores
from cphloc.files import atomic
from cphloc.inference.localization import SHOWN_SCORE
from cphloc.inference.localizer import Localizer
from cphloc.structures.annotation import Annotation
from cphloc.structures.merging import merged_annotation
from cphloc.structures.rung import Rung
from cphloc.structures.volume import Volume
from cphloc.tracking.run import evaluation_files, write_cases
from cphloc.zoo.names import sha256_of

ROWS_SHA256 = "rows_sha256"
"""Key of an evaluation: SHA-256 of its CSV file, so that rows of another evaluation beside it are found."""


def write_evaluation(folder: Path, facts: dict[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[Path]:
    """Write the CSV file of the cases, then the JSON file of the metrics, which pins the first; returns both."""
    folder.mkdir(parents=True, exist_ok=True)
    table, per_case = (folder / name for name in evaluation_files(facts["split"]))
    with atomic(per_case) as temporary:
        write_cases(temporary, rows)
    facts[ROWS_SHA256] = sha256_of(per_case.read_bytes())
    with atomic(table) as temporary:
        temporary.write_text(jsonio.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return [table, per_case]


def draw_evaluation(
    folder: Path, localizer: Localizer, cases: Sequence[Case], scores: Scores, split: str
) -> list[Path]:
    """Draw the curves, and the worst, median and best case (which are predicted again); returns the files."""
    files: list[Path] = []
    with drawing("the curves"):
        files += draw_scores(scores.curves(), folder, f"{split}-")
    with drawing("the cases"):
        name, chosen = extremes(scores.rows, localizer.recipe.headline)
        by_id = {case.id: case for case in cases}
        for place, id in chosen.items():
            files.append(folder / f"{split}-{place}.png")
            draw_predicted(localizer, by_id[id], heading(place, id, name, scores.rows), files[-1])
    return files


def draw_predicted(localizer: Localizer, case: Case, title: str, path: Path) -> None:
    """Predict a case and draw it with its annotation.

    Args:
        localizer: the model.
        case: the case.
        title: text above the picture.
        path: picture to write.
    """
    volume, annotation = read_completed(case, localizer)
    prediction = case_prediction(localizer.predict(volume, threshold=all_boxes(localizer)), localizer.classes)
    shown = localizer.thresholds.get("boxes", SHOWN_SCORE)
    draw_case(volume, annotation, prediction, localizer.classes, title, path, shown)


def all_boxes(localizer: Localizer) -> dict[str, float]:
    """Thresholds for scoring: metrics such as AP and FROC need all boxes, masks are scored as they are returned."""
    return {**localizer.thresholds, "boxes": 0.0}


def read_completed(case: Case, localizer: Localizer, strongest: Rung | None = None) -> tuple[Volume, Annotation]:
    """Read the image of a case and its annotation, completed along the ladder as far as the rung ``strongest``."""
    volume, annotation = read_case(case, localizer.recipe.dims)
    completed = annotation.completed(volume.geometry.shape, len(localizer.classes), strongest)
    return volume, merged_annotation(completed, localizer.classes)
