import os
from pathlib import Path

import numpy as np
import pytest

from cphloc.data.pipeline.cache import PreparedCase
from cphloc.structures.annotation import Annotation
from cphloc.structures.geometry import Geometry


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test prepares its own cases and sees no data but the shipped."""
    monkeypatch.setenv("CPHLOC_CACHE", str(tmp_path / "cache"))
    for variable in ("CPHLOC_DATA", "CPHLOC_CACHE_GB"):
        monkeypatch.delenv(variable, raising=False)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    return tmp_path / "cache"


@pytest.fixture
def prepared():
    """Makes a prepared case of random voxels with the annotation given."""

    def make(shape: tuple[int, ...], foreground: list | None = None, spacing_mm=None, **annotation) -> PreparedCase:
        image = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
        geometry = Geometry.regular(shape, spacing_mm)
        points = np.asarray(foreground or [], np.int32).reshape(-1, 1 + len(shape))
        return PreparedCase("case", image, Annotation(**annotation), geometry, geometry, points, content="")

    return make
