"""What people install: the wheel and the sdist hold the three data folders, and work outside the checkout."""

import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SHIPPED = ["registry/head/unet.yaml", "recipes/unet3d-hippocampus.yaml"]
TYPES = ["cphloc/py.typed", "cphloc/__init__.pyi"]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Wheel and sdist of this tree."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return out


@pytest.fixture(scope="module")
def clean_python(built, tmp_path_factory):
    """An environment that holds the wheel and, borrowed from this one, its dependencies, but not this checkout."""
    folder = tmp_path_factory.mktemp("env")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    site = Path(
        subprocess.run(
            [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
    )
    (wheel,) = built.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(site)
    # A path file adds its folder without reading the path files in there, so an editable install stays out.
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    return python


def run(python, *arguments, cwd):
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "CPHLOC"))}
    return subprocess.run([python, *arguments], cwd=cwd, capture_output=True, text=True, env=own)


def cphloc(python, *arguments, cwd):
    return run(python, "-m", "cphloc.cli", *arguments, cwd=cwd)


def test_wheel_and_sdist_hold_the_data_folders(built):
    (wheel,), (sdist,) = built.glob("*.whl"), built.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = archive.namelist()
    with tarfile.open(sdist) as archive:
        in_sdist = [name.split("/", 1)[1] for name in archive.getnames() if "/" in name]
    for name in SHIPPED:
        assert f"cphloc/_data/{name}" in in_wheel
        assert name in in_sdist
    for name in TYPES:
        assert name in in_wheel
        assert name in in_sdist
    assert any("zoo/" in name and name.endswith("model.safetensors") for name in in_wheel)
    assert any(name.startswith("cphloc/data/sample/") for name in in_wheel)


def test_the_wheel_works_outside_the_checkout(clean_python, tmp_path):
    where = run(clean_python, "-c", "import cphloc; print(cphloc.__file__)", cwd=tmp_path)
    assert str(ROOT) not in where.stdout
    listed = cphloc(clean_python, "list", "backbones", cwd=tmp_path)
    assert listed.returncode == 0
    assert "conv_encoder" in listed.stdout
    checked = cphloc(clean_python, "check", "unet3d-hippocampus", cwd=tmp_path)
    assert (checked.returncode, checked.stdout.splitlines()[0]) == (0, "unet3d-hippocampus: ok"), checked.stderr
    zoo = cphloc(clean_python, "list", "zoo", cwd=tmp_path)
    assert "unet3d-hippocampus" in zoo.stdout
