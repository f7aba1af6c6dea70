"""Optional packages: where one is missing, the message names the extra that installs it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest

from cphloc.errors import EXTRAS, MissingExtraError, needs

PROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
OPTIONAL = PROJECT["optional-dependencies"]
USERS = re.search(r"\[(.*)\]", OPTIONAL["all"][0])[1].split(",")
"""Extras for users, all of which `all` installs."""

SAMPLE = "from cphloc.data.datasets.hippocampus import SAMPLE; scan = SAMPLE / 'images' / 'hippocampus_149.nii.gz'\n"
PREDICT = f"import cphloc\n{SAMPLE}assert cphloc.load('unet3d-hippocampus').predict(scan).masks.any()"
DETECT = """
listing = cphloc.list_entries(name="yolox2d-bloodcells")[0]
image = next(path for path in (listing.place / "sample").iterdir() if path.suffix in (".jpg", ".png"))
print(len(cphloc.load("yolox2d-bloodcells").predict(image).boxes))
"""

NEEDS = {
    "lightning": "import cphloc; cphloc.train",
    "albumentations": "from cphloc.data.augment.albumentations import AlbumentationsTransform as T\n"
    "T('GaussNoise', {})",
    "faster_coco_eval": "from cphloc.metrics.coco import coco_summary\n"
    "from cphloc.metrics.detection import DetectionCase as D\n"
    "coco_summary([D([[0, 0, 4, 4]], [0.9], [1], [[0, 0, 4, 3]], [1])])",
    "mlflow": "from cphloc.tracking.server import client_of, reaching\n"
    "with reaching('sqlite:///a.db', ''): client_of('sqlite:///a.db')",
    "onnxscript": "from cphloc.cli import main\n"
    "raise SystemExit(main(['export', 'unet3d-hippocampus', '--out', 'a.onnx']))",
    "ray": "from cphloc.distributed.cluster import over_jobs; list(over_jobs(len, [[]], 'ray'))",
    "optuna": "from cphloc.cli import main; raise SystemExit(main(['sweep', 'demo']))",
    "h5py": "from pathlib import Path; from cphloc.data.rebuild.brain_t1c import read_slice; read_slice(Path('1.mat'))",
}
"""Code that needs a package."""


def without(*packages: str, code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run code in a process that cannot import the packages."""
    block = f"import sys\nfor name in {packages!r}: sys.modules[name] = None\n"
    environment = {**os.environ, "CPHLOC_CACHE": str(folder / "cache")}
    command = [sys.executable, "-W", "ignore", "-c", block + code]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)


def test_every_optional_package_is_in_the_extra_that_is_named():
    for module, extra in EXTRAS.items():
        names = {re.match(r"[\w-]+", requirement)[0].replace("-", "_") for requirement in OPTIONAL[extra]}
        assert module in names, module
        assert extra == "onnx" or extra in USERS


def test_a_missing_package_of_another_kind_stays_an_import_error():
    with pytest.raises(ModuleNotFoundError), needs("this"):
        import no_such_package  # noqa: F401  # pyright: ignore[reportMissingImports]  # there is none


def test_the_message_gives_the_line_that_installs_it():
    expected = re.escape("cphloc.train needs the extra 'train': pip install 'cphloc[train]'")
    with pytest.raises(MissingExtraError, match=expected), needs("cphloc.train"):
        raise ModuleNotFoundError(name="lightning.pytorch")


def test_loading_and_predicting_need_no_extra(tmp_path):
    done = without(*EXTRAS, "numba", "gdcm", "pylibjpeg", code=f"{PREDICT}\n{DETECT}", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    with_numba = without(code=f"import cphloc\n{DETECT}", folder=tmp_path)
    assert int(done.stdout) == int(with_numba.stdout) > 0


@pytest.mark.parametrize("package", NEEDS)
def test_a_missing_extra_is_named_with_its_install_line(package, tmp_path):
    done = without(package, code=NEEDS[package], folder=tmp_path)
    assert done.returncode != 0
    assert f"pip install 'cphloc[{EXTRAS[package]}]'" in done.stderr
    if "main(" in NEEDS[package]:
        assert "Traceback" not in done.stderr


def test_no_extra_installs_a_package_under_the_gpl():
    """Of all extras for users, whose packages are installed here."""
    requirements = [*PROJECT["dependencies"], *(r for extra in USERS for r in OPTIONAL[extra])]
    named = {re.match(r"[\w-]+", requirement)[0] for requirement in requirements} - {"cphloc"}
    assert {"python-gdcm", "pylibjpeg-openjpeg", "mlflow"} <= named
    assert "pylibjpeg-libjpeg" not in named
    for name in named:
        meta = distribution(name).metadata
        stated = " ".join([meta.get("License-Expression") or "", *(meta.get_all("Classifier") or [])])
        assert not re.search(r"\bGPL|GNU General Public|AGPL", stated), name
