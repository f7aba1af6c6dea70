"""What the commands after a training cost for so many test cases: evaluate, publish, compare. A program of its own.

``python tests/benchmarks/cases.py 250`` prints CPU seconds of each command as JSON, and the peak memory at its end.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

SIDE = 48


def recipe(cases: int) -> dict[str, Any]:
    """Return a recipe whose network costs next to nothing, on so many pictures with a disc."""
    return {
        **{"name": "growth", "task": "segmentation", "dims": 2, "options": []},
        "data": {
            **{
                "type": "phantom",
                "size": [SIDE, SIDE],
                "patch": [SIDE, SIDE],
                "diameter_mm": [6.0, 10.0],
                "objects": [1, 1],
            },
            **{"cases": {"train": 2, "val": 1, "test": cases}, "workers": 0},
        },
        "model": {
            "backbone": {"type": "conv_encoder", "widths": [4, 8]},
            "heads": {"mask": {"type": "unet", "classes": {1: "mass"}}},
        },
        "train": {"steps": 1, "batch": 1, "precision": "32"},
        "about": {"intended_use": "to be measured", "limits": ["all"], "changelog": "first"},
    }


def main(cases: int) -> None:
    """Train one step, then measure."""
    import cphloc
    from cphloc.evaluation.evaluate import evaluate
    from cphloc.publishing.compare import compare
    from cphloc.publishing.publish import publish

    run = cphloc.train(recipe(cases))
    found: dict[str, float] = {}
    words = {"summary": "Finds discs", "intended_use": "to be measured", "limits": ["all"], "changelog": "first"}
    reasons = {"sample_is_clean": True, "below_baseline": "not trained", "because": "measured"}
    evaluate(run)  # what is imported, compiled and prepared at the first time
    _measure(found, "evaluate", lambda: evaluate(run))
    _measure(found, "publish", lambda: publish(run.folder, "growth", "1.0.0", to="zoo", about=words, **reasons))
    _measure(found, "compare", lambda: compare([run.folder, "./zoo/growth/1.0.0"]))
    status = Path("/proc/self/status").read_text()
    found["peak_mb"] = int(status.split("VmHWM:")[1].split()[0]) / 1024
    print(json.dumps(found))


def _measure(found: dict[str, float], name: str, job: Callable[[], Any]) -> None:
    before = sum(os.times()[:4])
    job()
    found[name] = sum(os.times()[:4]) - before


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ |= {"CPHLOC_CACHE": f"{folder}/cache", "CPHLOC_QUIET": "1"}
        main(int(sys.argv[1]))
