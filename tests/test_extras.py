"""Optional packages: where one is missing, the message names the extra that installs it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import pytest

from cphloc.data.io.read import read_volume
from cphloc.errors import EXTRAS, MissingExtraError, needs
from cphloc.inference import batch_report
from cphloc.inference.localization import Localization

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
    "matplotlib": "import numpy as np; from cphloc.data.io.overlay import overlay\n"
    "from cphloc.structures.geometry import Geometry; from cphloc.structures.volume import Volume\n"
    "overlay(Volume(np.zeros((1, 4, 4), np.float32), Geometry.regular((4, 4), (1.0, 1.0))), {})",
    "albumentations": "from cphloc.data.augment.albumentations import AlbumentationsTransform as T\n"
    "T('GaussNoise', {})",
    "faster_coco_eval": "from cphloc.metrics.coco import coco_summary\n"
    "from cphloc.metrics.detection import DetectionCase as D\n"
    "coco_summary([D([[0, 0, 4, 4]], [0.9], [1], [[0, 0, 4, 3]], [1])])",
    "mlflow": "from cphloc.tracking.server import client_of, reaching\n"
    "with reaching('sqlite:///a.db', ''): client_of('sqlite:///a.db')",
    "onnxscript": "from cphloc.cli import main\n"
    "raise SystemExit(main(['export', 'unet3d-hippocampus', '--out', 'a.onnx']))",
    "onnxruntime": "import cphloc; from cphloc.inference.runtimes import _onnxruntime\n_onnxruntime(None, None, {})",
    "openvino": "from cphloc.inference.runtimes import _openvino; _openvino(None, None, {})",
    "highdicom": "from cphloc.data.io.write_dicom_seg import _segmentation; _segmentation([], None, [], 'a', '1')",
    "huggingface_hub": "from cphloc.publishing.hub import _api; _api()",
    "cryptography": "from cphloc.zoo.signature import check_signature; check_signature(None, [])",
    "monai": "import cphloc; cphloc.build({'task': 'segmentation', 'dims': 3,\n"
    "'data': {'type': 'hippocampus', 'root': 'sample'}, 'model': {'backbone': {'type': 'monai_segresnet'},\n"
    "'heads': {'mask': {'type': 'unet', 'classes': {1: 'anterior', 2: 'posterior'}}}}})",
    "ray": "from cphloc.distributed.cluster import over_jobs; list(over_jobs(len, [[]], 'ray'))",
    "optuna": "from cphloc.cli import main; raise SystemExit(main(['sweep', 'demo']))",
    "h5py": "from pathlib import Path; from cphloc.data.rebuild.brain_t1c import read_slice; read_slice(Path('1.mat'))",
}
"""Code that needs a package; lightning is tested in a process of its own, because its users may be imported already."""


IMPORTERS = {"matplotlib": "cphloc.data.io.picture"}
"""Package -> the module that imports it at its top, and would keep it when it has been imported already."""


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


def block(monkeypatch, package):
    """Let every import of a package fail, as if it were not installed, nor imported by a module of cphloc before."""
    for module in [name for name in sys.modules if name.partition(".")[0] == package or name == IMPORTERS.get(package)]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)


@pytest.mark.parametrize("package", NEEDS)
def test_a_missing_extra_is_named_with_its_install_line(package, monkeypatch, capsys, at_work):
    monkeypatch.setattr("cphloc.inference.runtimes._exported", lambda model, window: Path("network.onnx"))
    block(monkeypatch, package)
    with pytest.raises((MissingExtraError, SystemExit)) as failed:
        exec(NEEDS[package], {})
    said = capsys.readouterr().err if "main(" in NEEDS[package] else str(failed.value)
    assert f"pip install 'cphloc[{EXTRAS[package]}]'" in said
    assert "Traceback" not in said


def test_training_without_its_extra_names_it(tmp_path):
    done = without("lightning", code="import cphloc; cphloc.train", folder=tmp_path)
    assert done.returncode != 0
    assert "pip install 'cphloc[train]'" in done.stderr


def test_every_extra_of_errors_is_covered():
    assert {*NEEDS, "lightning", "onnx"} == set(EXTRAS)  # onnx is installed with onnxscript and not imported


def test_a_report_without_the_viewer_names_its_extra(monkeypatch):
    block(monkeypatch, "ipyniivue")
    _, _, notes = batch_report._viewer([{"status": "done", "files": ["a_mask.nii.gz"]}], None)
    assert notes == ["3-D results can be turned and windowed here with the extra: pip install 'cphloc[view]'"]


@pytest.mark.parametrize("dims", [2, 3])
def test_without_matplotlib_a_result_is_saved_and_states_why_it_has_no_picture(dims, monkeypatch, tmp_path):
    block(monkeypatch, "matplotlib")
    image = read_volume(np.zeros((8,) * dims), spacing_mm=(1.0,) * dims)
    result = Localization(image, {1: "mass"}, boxes=[])
    names = [path.name.partition("_")[2] for path in result.save(tmp_path)]
    assert names == [*["boxes.csv", "boxes.json"][: 4 - dims], "result.json"]
    assert result.remarks == ["no picture: a picture needs the extra 'plot': pip install 'cphloc[plot]'"]
    assert result.remarks[0] in (tmp_path / f"{result.case}_result.json").read_text()
    assert "pip install 'cphloc[plot]'" in result._repr_html_().replace("&#x27;", "'")


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
