"""Transforms and intensity schemes of a plug-in work; a class that breaks the contract gets one clear line."""

import sys
import textwrap

import numpy as np
import pytest

from cphloc.data.augment.augmentation import Augmentation
from cphloc.data.pipeline.intensity import fit_intensity, parse_intensity
from cphloc.errors import InputError
from cphloc.structures.annotation import Annotation

MODULE = """
    from dataclasses import dataclass
    from typing import ClassVar

    from cphloc.data.augment.transform import Draw
    from cphloc.data.augment.warp import Warp
    from cphloc.data.pipeline.intensity import Intensity

    class Negate:
        def __init__(self, offset: float = 0.0, p: float = 1.0) -> None:
            self.offset, self.p = offset, p

        def __call__(self, image, rng):
            return self.offset - image

    class Shift:
        def __init__(self, voxels: float, p: float = 1.0) -> None:
            self.voxels, self.p = voxels, p

        def draw(self, rng, size, spacing_mm):
            return Draw(Warp(Warp.identity(len(size)).matrix, (self.voxels,) * len(size)))

    class Nothing:
        def __init__(self, p: float = 1.0) -> None:
            self.p = p

    @dataclass(frozen=True)
    class Median(Intensity):
        type: ClassVar[str] = "median"
        level: float | None = None

        @property
        def needs_fit(self):
            return self.level is None

        def fitted(self, values):
            return Median(float(sorted(values)[len(values) // 2]))

        def __call__(self, values, window=None):
            return values.astype("float32") - self.level
"""
TRANSFORMS = """
    Negate: {summary: Negates, import: "plugged_in:Negate"}
    Shift: {summary: Shifts, import: "plugged_in:Shift"}
    Nothing: {summary: Does nothing, import: "plugged_in:Nothing"}
"""
INTENSITIES = """
    median: {summary: Subtracts the median, import: "plugged_in:Median"}
    other: {summary: Named otherwise, import: "plugged_in:Median"}
"""


@pytest.fixture
def _plugin(tmp_path, monkeypatch):
    (tmp_path / "plugged_in.py").write_text(textwrap.dedent(MODULE))
    (tmp_path / "transform.yaml").write_text(textwrap.dedent(TRANSFORMS))
    (tmp_path / "intensity.yaml").write_text(textwrap.dedent(INTENSITIES))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("CPHLOC_REGISTRY", str(tmp_path))
    yield
    sys.modules.pop("plugged_in", None)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.usefixtures("_plugin")
def test_transforms_of_a_plugin_are_applied(dims):
    """One changes the image, the other draws a warp."""
    blocks = [{"type": "Negate", "offset": 1.0}, {"type": "Shift", "voxels": 2.0}]
    augmentation, rng = Augmentation(blocks, dims), np.random.default_rng(0)
    image = np.arange(8.0**dims, dtype=np.float32).reshape(1, *(8,) * dims)
    np.testing.assert_array_equal(augmentation.apply(image, Annotation(), rng)[0], 1 - image)
    assert augmentation.draw(rng, (8,) * dims, (1.0,) * dims).warp.shift == (2.0,) * dims


@pytest.mark.usefixtures("_plugin")
def test_an_intensity_scheme_of_a_plugin_is_fitted_and_applied():
    """Training fills in its constant; the mapping that an entry stores gives the same scheme."""
    (scheme,) = parse_intensity("median", 1)
    fitted = fit_intensity(scheme, [np.array([1.0, 2.0, 9.0])], [None])
    assert fitted(np.array([3.0])).tolist() == [1.0]
    assert parse_intensity(fitted.to_dict(), 1) == [fitted]


@pytest.mark.usefixtures("_plugin")
@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: Augmentation([{"type": "Nothing"}], 2),
            "(plugged_in:Nothing) has no draw or with_annotation or __call__; add it",
        ),
        (lambda: Augmentation([{"type": "Shift"}], 2), "transform Shift needs the argument 'voxels', number; add it"),
        (lambda: Augmentation([{"type": "Shift", "voxels": "a"}], 2), "Shift: voxels must be number, got 'a'"),
        (lambda: parse_intensity("other", 1), "intensity other: class Median must be an Intensity with type = 'other'"),
    ],
)
def test_a_class_or_argument_that_breaks_the_contract_is_named(build, message):
    """Never a TypeError or AttributeError."""
    with pytest.raises(InputError) as caught:
        build()
    assert message in str(caught.value)
