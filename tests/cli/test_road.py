"""The whole road on real scans: recipe, check, train, evaluate, publish, load, predict; and what goes wrong on it."""

import contextlib
import errno
import io
import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk

from cphloc.cli import main
from cphloc.cli.commands import commands
from cphloc.data.datasets.hippocampus import SAMPLE

IMAGE = SAMPLE / "images" / "hippocampus_149.nii.gz"

WHY = ("--below-baseline", "two steps of training")
RECIPE = """
extends: demo
description: Four steps, to test the road
model:
  backbone: {type: conv_encoder, widths: [4, 8]}
train: {steps: 4, validate_every: 2, warmup_steps: 1, ema: null}
"""


@pytest.fixture(scope="module")
def road(tmp_path_factory):
    """A working folder with a run of four steps, its evaluation, and a zoo that holds it."""
    folder = tmp_path_factory.mktemp("road")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("CPHLOC_CACHE", str(folder / "cache"))
        patch.setenv("CPHLOC_ZOO", str(folder / "zoo"))
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
        (folder / "tiny.yaml").write_text(RECIPE)
        assert answer("check", "tiny.yaml")
        assert answer("train", "tiny.yaml")
        assert answer("evaluate", "latest")
        assert answer("publish", "latest", "--name", "tiny", "--version", "0.1.0", *WHY)
        yield folder


def answer(*arguments):
    """What a command prints with ``--json``; nothing else may be on its standard output."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert main([*map(str, arguments), "--json"]) == 0
    return json.loads(printed.getvalue())


def run(capsys, *arguments):
    capsys.readouterr()
    code = main(list(map(str, arguments)))
    said = capsys.readouterr()
    return code, said.out, said.err


def test_the_run_keeps_what_is_needed_and_nothing_that_could_hold_code(road):
    (folder,) = (road / "runs" / "tiny").iterdir()
    kept = {path.name for path in folder.iterdir()}
    assert {"recipe.yaml", "best.safetensors", "last.safetensors", "metrics.json", "cases.csv", "pictures"} <= kept
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} <= {
        *(".yaml", ".safetensors", ".json", ".jsonl", ".csv", ".png", ".npz")
    }


def test_the_evaluation_has_intervals_and_a_baseline(road):
    (folder,) = (road / "runs" / "tiny").iterdir()
    facts = json.loads((folder / "evaluation-test.json").read_text())
    dice = facts["metrics"]["dice"]
    assert dice["n"] == 4
    assert 0 <= dice["low"] <= dice["value"] <= dice["high"] <= 1
    assert facts["baseline"]["metrics"]["dice"]["value"] > 0.4
    assert set(facts["per_class"]) == {"anterior", "posterior"}


def test_mlflow_has_the_run_and_the_entry_under_the_same_keys(road):
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{road / 'mlflow.db'}")
    by_name = {e.name: client.search_runs([e.experiment_id]) for e in client.search_experiments()}
    (trained,), (published,) = by_name["cphloc/tiny"], by_name["cphloc-zoo"]
    for key in ("test/dice", "test/dice_ci_low", "test/dice_ci_high", "test/hd95_mm", "speed/ms_per_case"):
        assert published.data.metrics[key] == pytest.approx(trained.data.metrics[key])
    assert trained.data.params["recipe_sha256"]
    assert {a.path for a in client.list_artifacts(trained.info.run_id)} >= {"recipe.yaml", "pictures"}
    assert [m.name for m in client.search_registered_models()] == ["tiny"]


def test_the_entry_verifies_and_is_harmless(road, capsys):
    assert run(capsys, "verify", "tiny")[0] == 0
    code, out, _ = run(capsys, "audit", "tiny", "--json")
    assert code == 0
    assert all(line["safe"] for line in json.loads(out))


def test_loading_and_predicting_need_neither_network_nor_trainer(road):
    code = (
        "import socket, sys\n"
        "def cut(*_): raise OSError('the network is cut')\n"
        "socket.socket.connect = cut\n"
        "import cphloc\n"
        f"result = cphloc.load('tiny').predict({str(IMAGE)!r})\n"
        "heavy = {'monai', 'lightning', 'mlflow', 'albumentations', 'timm', 'torchvision'}\n"
        "print(result.masks.shape, sorted(heavy & set(sys.modules)))\n"
    )
    environment = {**os.environ, "CPHLOC_ZOO": str(road / "zoo"), "CPHLOC_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=road)
    assert done.stdout.strip() == f"{sitk.GetArrayFromImage(sitk.ReadImage(str(IMAGE))).shape} []", done.stderr


def test_the_mask_lies_on_the_scan(road, capsys, tmp_path):
    """The same scan, flipped and with its axes in another order, gets the same mask in the patient."""
    image = sitk.ReadImage(str(IMAGE))
    turned = sitk.Flip(sitk.PermuteAxes(image, [2, 0, 1]), [True, False, True])
    sitk.WriteImage(turned, str(tmp_path / "turned.nii.gz"))
    code, out, _ = run(
        capsys, "predict", "tiny", IMAGE, tmp_path / "turned.nii.gz", "--out", tmp_path / "out", "--json"
    )
    assert code == 0
    plain, other = (sitk.ReadImage(str(tmp_path / "out" / f"{n}_mask.nii.gz")) for n in ("hippocampus_149", "turned"))
    assert plain.GetSize() == image.GetSize()
    assert np.allclose(plain.GetOrigin(), image.GetOrigin())
    assert np.allclose(plain.GetDirection(), image.GetDirection())
    assert np.allclose(other.GetDirection(), turned.GetDirection())
    back = sitk.GetArrayFromImage(sitk.Resample(other, plain, sitk.Transform(), sitk.sitkNearestNeighbor))
    assert np.array_equal(back, sitk.GetArrayFromImage(plain))
    facts = json.loads(out)[0]["measurements"]
    voxels = (sitk.GetArrayFromImage(plain) == 1).sum()
    assert facts["anterior"]["volume_ml"] == pytest.approx(voxels * np.prod(plain.GetSpacing()) / 1000)


JSON = {
    "list": "list",
    "show": "show tiny",
    "data": "data list",
    "predict": f"predict tiny {IMAGE} --out predicted",
    "verify": "verify tiny",
    "audit": "audit tiny",
    "response": f"response tiny {IMAGE} {IMAGE} --days 30",
    "screen": "screen --sensitivity 0.8 --specificity 0.9",
    "lock": "lock tiny",
    "describe": "describe tiny.yaml",
    "explain": "explain tiny.yaml",
    "diff": "diff tiny.yaml demo",
    "fill": "fill tiny.yaml",
    "schema": "schema",
    "migrate": "migrate tiny.yaml",
    "compare": "compare tiny latest",
    "push": "push latest",
    "zoo": "zoo index zoo",
    "completion": "completion bash",
    "help": "help",
    "plan": f"plan {SAMPLE} --out planned.yaml",
}
"""An invocation of every command that the fixture does not run and that takes no minutes."""


@pytest.mark.parametrize("command", JSON)
def test_with_json_the_standard_output_is_json_alone(road, command):
    assert answer(*JSON[command].split(" ")) is not None


def test_every_command_answers_in_json():
    in_fixture = {"check", "train", "evaluate", "publish"}
    with_tests_of_their_own = {"export", "import", "push-to-hub", "study", "sweep", "ui"}
    assert {*JSON, *in_fixture, *with_tests_of_their_own} >= set(commands())


def test_a_training_in_a_log_file_states_step_loss_best_and_time_and_quiet_does_not(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    _, _, loud = run(capsys, "train", "tiny.yaml", "--set", "train.steps=2")
    assert re.search(r"^training: 2/2 steps \(100 %\), loss \d.*, best dice \d.*, took \d+ s$", loud, re.MULTILINE)
    _, _, quiet = run(capsys, "train", "tiny.yaml", "--set", "train.steps=2", "--quiet")
    assert "training:" not in quiet


def nan_volume(folder):
    array = np.ones((8, 8, 8), np.float32)
    array[2, 3, 4] = np.nan
    sitk.WriteImage(sitk.GetImageFromArray(array), str(folder / "nan.nii.gz"))
    return folder / "nan.nii.gz"


def text_file(folder):
    (folder / "text.nii.gz").write_text("not an image")
    return folder / "text.nii.gz"


def picture(folder):
    sitk.WriteImage(sitk.GetImageFromArray(np.ones((8, 8), np.uint8)), str(folder / "flat.png"))
    return folder / "flat.png"


def empty_folder(folder):
    (folder / "empty").mkdir()
    return folder / "empty"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda folder: folder / "missing.nii.gz", "does not exist"),
        (text_file, "cannot be read"),
        (nan_volume, "NaN or infinite"),
        (picture, "2-D image but a volume"),
        (empty_folder, "is an empty folder"),
    ],
    ids=["missing file", "text named .nii.gz", "NaN", "2-D image", "empty folder"],
)
def test_a_wrong_input_is_one_clear_line_and_leaves_nothing(road, capsys, tmp_path, wrong, said):
    import re

    code, out, err = run(capsys, "predict", "tiny", wrong(tmp_path), "--out", tmp_path / "out")
    assert code == 2
    (line,) = (out + err).strip().splitlines()
    assert re.search(said, line), line
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_a_wrong_recipe_is_reported_and_starts_no_run(road, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wrong.yaml").write_text(RECIPE.replace("steps: 4", "stepz: 4"))
    code, _, err = run(capsys, "train", "wrong.yaml")
    assert code == 2
    assert err.strip() == "wrong.yaml:6:9: train.stepz: unknown key 'stepz'; did you mean 'steps'?"
    assert not (tmp_path / "runs").exists()


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_one_clear_line_and_publishing_leaves_nothing(road, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "rename", full)
    code, out, err = run(
        capsys, "publish", "latest", "--name", "tiny", "--version", "0.2.0", "--to", tmp_path / "out", *WHY
    )
    assert code == 1
    assert "No space left on device" in (out + err)
    assert not [p for p in (tmp_path / "out").rglob("*") if p.is_file()]


def test_a_full_disk_is_one_clear_line_and_predicting_leaves_nothing(road, tmp_path, monkeypatch):
    from pathlib import Path

    from cphloc.inference.batch import cases_of, predict_cases
    from cphloc.zoo.load import load

    model = load("tiny")
    monkeypatch.setattr(Path, "replace", full)
    (row,) = predict_cases(model, cases_of([str(IMAGE)]), tmp_path / "out")
    assert row["status"] == "failed"
    assert "wrong_input" not in row
    assert "No space left on device" in row["error"]
    assert not [p for p in (tmp_path / "out").rglob("*") if p.is_file()]


def test_resuming_goes_on_with_the_same_run(road, capsys):
    (folder,) = (road / "runs" / "tiny").iterdir()
    copied = road / "copied"
    shutil.copytree(folder, copied)
    code, out, _ = run(capsys, "train", "--resume", copied, "--json")
    assert code == 0
    assert json.loads(out)["metrics"]["train/steps"] == 4
