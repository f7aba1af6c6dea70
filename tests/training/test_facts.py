import shutil
import subprocess

import numpy as np
import pytest

from cphloc.data.case import read_case
from cphloc.data.datasets.hippocampus import SAMPLE, Hippocampus
from cphloc.data.pipeline.pipeline import Pipeline
from cphloc.recipe.recipe import load
from cphloc.structures.fingerprint import Fingerprint
from cphloc.training.facts import facts_of, fingerprint, git_commit


def test_a_run_keeps_what_it_left_out_and_a_hash_of_what_it_saw(tmp_path, monkeypatch):
    monkeypatch.setenv("CPHLOC_CACHE", str(tmp_path / "cache"))
    folder = shutil.copytree(SAMPLE, tmp_path / "hippocampus")

    def splits():
        pipeline = Pipeline(Hippocampus(str(folder)), (16, 16, 16), workers=0, skip_bad=True)
        return {"val": pipeline.cases("val")}

    assert facts_of(load("demo"), splits())["left_out"] == {}
    before = fingerprint(splits())
    moved = shutil.copytree(folder, tmp_path / "moved")
    elsewhere = Pipeline(Hippocampus(str(moved)), (16, 16, 16), workers=0).cases("val")
    assert fingerprint({"val": elsewhere}) == before
    train = splits()["val"]
    known = Fingerprint.model_validate(facts_of(load("demo"), {"train": train})["training_images"])
    volumes = [read_case(case, 3)[0] for case in train.cases]
    highest = [float(np.percentile(volume.array, 99.5)) for volume in volumes]
    assert (known.cases, known.unit) == (len(volumes), "mm")
    assert known.channels["t1"].high.largest == pytest.approx(max(highest))
    canonical = [volume.geometry.reoriented(*volume.geometry.canonical()) for volume in volumes]
    slices = [grid.shape[0] * grid.spacing_mm[0] for grid in canonical]
    assert (known.extent[0].least, known.extent[0].largest) == pytest.approx((min(slices), max(slices)))
    (image,) = splits()["val"].cases[0].images
    content = bytearray(image.read_bytes())
    content[4] ^= 1  # the time stamp of gzip: same size and voxels, another file
    image.write_bytes(content)
    assert fingerprint(splits()) != before
    image.write_bytes(b"")
    (reason,) = facts_of(load("demo"), splits())["left_out"]["val"]
    assert str(image) in reason


def git(folder, *args):
    name = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    subprocess.run(["git", *name, *args], cwd=folder, capture_output=True, check=True)
    return subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True).stdout.strip()


def package(folder):
    (folder / "cphloc").mkdir(parents=True)
    (folder / "cphloc" / "__init__.py").write_text("")
    return folder / "cphloc"


def test_the_commit_is_that_of_the_own_repository(tmp_path, monkeypatch):
    own = package(tmp_path / "own")
    git(own.parent, "init")
    assert git_commit(own) == "", "no commit yet"
    git(own.parent, "add", ".")
    commit = git(own.parent, "commit", "-m", "first")
    assert git_commit(own) == commit
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    assert git_commit(own) == commit, "inside a hook of another repository"
    monkeypatch.delenv("GIT_DIR")
    (own / "__init__.py").write_text("x = 1")
    assert git_commit(own) == f"{commit}+changes"


@pytest.mark.parametrize("place", ["venv/site-packages", "vendored"])
def test_a_repository_of_the_user_is_not_recorded(tmp_path, place):
    installed = package(tmp_path / place)
    git(tmp_path, "init")
    git(tmp_path, "add", "vendored" if place == "vendored" else "--all")
    git(tmp_path, "commit", "--allow-empty", "-m", "mine")
    assert git_commit(installed) == ""


def test_a_package_that_its_repository_ignores_is_not_recorded(tmp_path):
    installed = package(tmp_path)
    git(tmp_path, "init")
    git(tmp_path, "commit", "--allow-empty", "-m", "mine")
    assert git_commit(installed) == ""
