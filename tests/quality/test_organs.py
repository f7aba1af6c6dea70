"""The comparisons on organs are complete: their recipes are right, and the page states what was measured."""

from __future__ import annotations

from cphloc.config import yamlio
from cphloc.recipe.stages import PIPELINE

from .organs.__main__ import HERE, METRICS, NETWORK, page_of


def test_the_second_stage_of_the_pipeline_is_the_network_that_it_is_compared_with():
    pipeline = yamlio.load(HERE / "pipeline.yaml").plain
    assert pipeline["task"] == PIPELINE
    assert pipeline["stages"]["outline"]["entry"] == NETWORK
    assert pipeline["stages"]["find"]["entry"].partition("@")[0] == "retina3d-ct"


def test_the_page_has_a_row_for_each_system():
    row = {"metrics": {"dice": {"value": 0.75, "low": 0.7, "high": 0.8}}, "seconds": 2.0, "peak_mb": 900.4}
    lines = page_of({"one network": row, "pipeline": row}, "val").splitlines()
    assert len([line for line in lines if line.startswith("|")]) == 4
    assert lines[-1] == f"| pipeline | 0.750 [0.700, 0.800] |{' - |' * (len(METRICS) - 1)} 2.0 | 900 |"


def test_the_errors_of_each_stage_are_told_apart():
    whole, half = {"value": 1.0, "low": 0.9, "high": 1.0}, {"value": 0.5, "low": 0.4, "high": 0.6}
    stages = {
        "find": {"entry": "a@1", "crop": None},
        "outline": {"entry": "b@2", "crop": {"inside": whole, "iou": half, "missed": half}},
    }
    row = {"metrics": {"dice": half}, "seconds": 2.0, "peak_mb": 900.4, "stages": stages}
    text = page_of({"pipeline": {**row, "oracle": {"metrics": {"dice": whole}}}}, "val")
    assert "| pipeline, last stage in the annotated region | 1.000 [0.900, 1.000] |" in text
    assert text.endswith("| outline (b@2) | 1.000 [0.900, 1.000] | 0.500 [0.400, 0.600] | 0.500 [0.400, 0.600] |\n")
