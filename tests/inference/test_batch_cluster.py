"""Many cases on a local Ray: every output once, and a second call goes on where the first one stopped."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cphloc.cli import main
from cphloc.inference.batch import Case
from cphloc.inference.batch_cluster import Job, _model, predict_over
from cphloc.zoo.load import load

pytestmark = pytest.mark.usefixtures("own_folders")


def images(count: int) -> list[str]:
    random = np.random.default_rng(0)
    for number in range(count):
        np.save(f"scan{number}.npy", random.normal(size=(8, 16, 16)).astype(np.float32))
    return [f"scan{number}.npy" for number in range(count)]


def jobs(entry: Path, count: int) -> list[Job]:
    how = {"tta": False, "overlap": 0.5}
    cases = [Case(Path(file).stem, file) for file in images(count)]
    return [Job((str(entry),), "torch", case, "out", (3.0, 1.0, 1.0), False, how) for case in cases]


def test_a_case_that_is_there_is_not_predicted_again(published) -> None:
    work = jobs(published, 3)
    first = list(predict_over(work[:2], "local", load))
    assert [(row["case"], row["status"]) for row in first] == [("scan0", "done"), ("scan1", "done")]
    again = list(predict_over(work, "local", load))
    assert [row["status"] for row in again] == ["kept", "kept", "done"]
    assert [row["case"] for row in again] == ["scan0", "scan1", "scan2"]


@pytest.mark.parametrize(("names", "loaded"), [(("a",), "a"), (("a", "b"), ["a", "b"])])
def test_several_names_are_an_ensemble(names, loaded) -> None:
    assert _model(lambda given, backend: (given, backend), names, "torch", Path.cwd()) == (loaded, "torch")


def test_a_worker_loads_a_model_once() -> None:
    loaded = []
    load = lambda given, backend: loaded.append(given)  # noqa: E731
    for name, folder in (("a", "here"), ("a", "here"), ("b", "here"), ("b", "there")):
        _model(load, (name,), "torch", Path(folder))
    assert loaded == ["a", "b", "b"], "a name may be another model in another folder"


@pytest.mark.slow
def test_the_command_spreads_cases_over_ray_and_goes_on_where_it_stopped(published, capsys) -> None:
    pytest.importorskip("ray")
    (published.parent.parent.parent / "work" / "broken.nii.gz").write_bytes(b"no image")
    command = ["predict", str(published), *images(3), "broken.nii.gz", "--spacing", "3,1,1", "--backend", "torch"]
    assert main([*command, "--out", "here", "--json"]) == 1
    here = json.loads(capsys.readouterr().out)
    assert main([*command, "--out", "there", "--engine", "ray", "--json", "--debug"]) == 1
    there = json.loads(capsys.readouterr().out)
    assert [row["status"] for row in there] == ["done", "done", "done", "failed"]
    for ours, theirs in zip(here[:3], there[:3], strict=True):
        assert ours["measurements"] == theirs["measurements"]
        assert [Path(f).name for f in ours["files"]] == [Path(f).name for f in theirs["files"]]
    written = {file: Path(file).stat().st_mtime_ns for row in there[:3] for file in row["files"]}
    Path(there[1]["files"][0]).unlink()
    assert main([*command, "--out", "there", "--engine", "ray", "--json"]) == 1
    again = json.loads(capsys.readouterr().out)
    assert [row["status"] for row in again] == ["kept", "done", "kept", "failed"]
    kept = [file for row in (again[0], again[2]) for file in row["files"]]
    assert all(Path(file).stat().st_mtime_ns == written[file] for file in kept), "each output is written once"
