"""From a cold shell: commands, imports, the first prediction."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from .measure import Comparison, Contender, more_at_most, times_at_most, times_less

FRONT = (
    ("list",),
    ("show", "fpn"),
    ("schema",),
    ("explain", "unet3d-hippocampus"),
    ("diff", "demo", "unet3d-hippocampus"),
    ("fill", "demo"),
    ("check", "--syntax", "demo"),
)
"""Commands without torch."""
MOST = 2.5
"""How many times the import of yaml and pydantic they may take."""
SCAN = Path("cphloc/data/sample/hippocampus/images/hippocampus_149.nii.gz").resolve()
PREDICT = f"""
from cphloc.inference.localizer import Localizer
from cphloc.recipe.recipe import load
from cphloc.modeling.build import build_model
recipe = load("unet3d-hippocampus")
Localizer(build_model(recipe), recipe).eval().predict({str(SCAN)!r})
"""


def comparisons(full: bool) -> list[Comparison]:
    """Commands against what they cannot do without, and against MONAI's."""
    libraries = _python("import yaml, pydantic")
    front = [
        Comparison(f"cphloc {' '.join(words)}", _cphloc(*words), (libraries,), times_at_most(MOST)) for words in FRONT
    ]
    bundle = Contender("python -m monai.bundle --help", lambda: _job("-m", "monai.bundle", "--help", needs="monai"))
    return [
        *front,
        Comparison("list what exists", _cphloc("list"), (bundle,), times_less(40)),
        Comparison("check a recipe", _cphloc("check", "--syntax", "demo"), (bundle,), times_less(40)),
        Comparison("import", _python("import cphloc"), (_python("import yaml"),), times_at_most(2)),
        Comparison(
            "first prediction of a scan (35 x 51 x 35)",
            Contender("cphloc", lambda: _job("-c", PREDICT)),
            (_python("import torch"),),
            more_at_most(1.0),
        ),
    ]


def _cphloc(*words: str) -> Contender:
    return Contender(f"cphloc {' '.join(words)}", lambda: _job("-m", "cphloc.cli", *words))


def _python(code: str) -> Contender:
    return Contender(code, lambda: _job("-c", code))


def _job(*arguments: str, needs: str | None = None) -> Callable[[], None]:
    if needs is not None and importlib.util.find_spec(needs) is None:
        raise ImportError(name=needs)
    command = [sys.executable, *arguments]
    return lambda: subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False) and None
