"""Run the framework that trained imported weights in an environment of its own, to compare its predictions."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cphloc.errors import CphlocError
from cphloc.importing.proof import compare
from cphloc.importing.sample import synthetic
from cphloc.inference.localizer import Localizer
from cphloc.paths import cached
from cphloc.publishing.patient import write_pixels
from cphloc.publishing.sample import EXPECTED_FILE, MASK_FILE
from cphloc.zoo.imported import Proof

PACKAGES: Mapping[str, tuple[str, ...]] = {
    "nnunetv2": ("nnunetv2>=2.5",),
    "monai": ("monai[nibabel,pillow]>=1.4",),
    "segmentation_models_pytorch": ("segmentation-models-pytorch>=0.4",),
    "torchvision": ("torchvision>=0.21",),
}
"""Framework -> what its environment installs."""

SECONDS = 3600
"""Longest time of an installation or a proof."""


@dataclass(frozen=True)
class Prover:
    """Predicts with the framework that trained a model.

    Args:
        framework: name of its package, a key of `PACKAGES`.
        source: file or folder with the weights, as the framework reads them.
        python: a Python that has the framework; ``None`` makes an environment in the cache with uv.
        options: further arguments of the script of the framework in ``cphloc/importing/provers``.
    """

    framework: str
    source: Path
    python: str | Path | None = None
    options: tuple[str, ...] = ()

    def prove(self, localizer: Localizer, sample: Path) -> Proof:
        """Predict the sample of an entry with the framework and compare.

        Args:
            localizer: the model.
            sample: folder with one image: a PNG, or a NIfTI file for each channel.

        Raises:
            CphlocError: the framework cannot be installed or run.
            DataError: the predictions differ.
        """
        script = Path(__file__).parent / "provers" / f"prove_{self.framework}.py"
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            files = sorted(path for path in sample.iterdir() if path.name not in (EXPECTED_FILE, MASK_FILE))
            if not files[0].name.endswith(".png"):
                for number, channel in enumerate(localizer.recipe.channels):
                    shutil.copyfile(self._file(files, channel, number), folder / f"case_{number:04d}.nii.gz")
            else:
                shutil.copyfile(files[0], folder / "case_0000.png")
            python = self.python or environment(self.framework)
            command = [str(python), str(script), str(self.source.absolute()), str(folder), *self.options]
            _run(command, f"{self.framework} could not predict the sample")
            return compare(localizer, folder, "prove")

    def prove_synthetic(self, localizer: Localizer) -> Proof:
        """Predict a synthetic image with the framework and compare; errors as for `prove`."""
        with tempfile.TemporaryDirectory() as folder:
            write_pixels(Path(folder), synthetic(localizer), localizer.recipe.channels)
            return self.prove(localizer, Path(folder))

    @staticmethod
    def _file(files: list[Path], channel: str, number: int) -> Path:
        named = [path for path in files if path.name.removesuffix(".nii.gz") in (channel, str(number))]
        return named[0] if named else files[number]


def environment(framework: str) -> Path:
    """Return the Python of an environment with a framework; it is made in the cache the first time.

    Raises:
        CphlocError: uv is not installed, or the packages cannot be installed.
    """
    folder = cached("environments", framework)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    complete = folder / "complete"
    if complete.is_file():
        return python
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    if not Path(uv).is_file():
        msg = f"an environment for {framework} is made with uv, which is missing: pip install uv, or give --python"
        raise CphlocError(msg)
    _run([uv, "venv", "--clear", str(folder)], f"no environment for {framework} could be made")
    _run([uv, "pip", "install", "--python", str(python), *PACKAGES[framework]], f"{framework} could not be installed")
    complete.touch()
    return python


def _run(command: list[str], failed: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        msg = f"{failed}: {error}"
        raise CphlocError(msg) from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        msg = f"{failed}: {last[:300]}"
        raise CphlocError(msg)
