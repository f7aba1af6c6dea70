"""Hostile and contradictory sources are refused in one line that names what is wrong, and nothing is written."""

import io
import json
import os
import pickle
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from cphloc.cli import main
from cphloc.importing import checkpoint, unpickle
from cphloc.importing.nnunet_folder import CHECKPOINT, extract

MODELS = Path(__file__).parent / "nnunet"
MONAI = Path(__file__).parent / "monai" / "dynunet"


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    """Unpickle in this process; `test_checkpoint` shows that a process of its own does the same."""

    def run(command, **_):
        monkeypatch.setattr(sys, "argv", command[2:])
        try:
            unpickle.main()
        except SystemExit as error:
            return subprocess.CompletedProcess(command, 1, "", str(error))
        except Exception as error:
            return subprocess.CompletedProcess(command, 1, "", f"{type(error).__name__}: {error}".replace("\n", " "))
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(checkpoint.subprocess, "run", run)


class Asks:
    """Pickles as a call."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call[0], self.call[1:]


def refused(source, capsys, *options, framework="nnunet"):
    """Import a source through the console; returns the only line that is printed."""
    zoo = Path(capsys_folder(source)) / "zoo"
    terms = ["--licence", "MIT", "--citation", "x", "--origin", "y", "--name", "a", "--version", "1.0.0"]
    assert main(["import", framework, str(source), *terms, "--to", str(zoo), *options]) == 2
    assert not list(zoo.rglob("*.safetensors"))
    assert not (zoo / "a").exists()
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def capsys_folder(source):
    return source.parent if source.is_file() else source


def model(folder, edit=None):
    """A folder of results, whose plans, configuration and data set may be edited."""
    extract(MODELS / "regions" / "model.zip", folder)
    plans = next(folder.rglob("plans.json"))
    contents = [json.loads(path.read_text()) for path in (plans, plans.with_name("dataset.json"))]
    if edit is not None:
        edit(contents[0]["configurations"]["3d_fullres"], contents[1])
    for path, content in zip((plans, plans.with_name("dataset.json")), contents, strict=True):
        path.write_text(json.dumps(content))
    return plans.parent


def circle():
    found = []
    found.append(found)
    return found


CONTENTS = {
    "reduce": (lambda mark: Asks(os.system, f"touch {mark}"), r"asks for posix\.system"),
    "getattr": (lambda mark: Asks(getattr, "a", "upper"), r"asks for \w+\.getattr"),
    "array": (lambda mark: np.array([Asks(os.mkdir, str(mark))], dtype=object), r"posix\.mkdir"),
    "expanded": (lambda mark: torch.zeros(1).expand(10**12), r"the tensor 'network_weights\.x' of shape"),
    "circle": (lambda mark: circle(), "nested deeper than 50 levels"),
    "import": (lambda mark: Asks(__import__, "antigravity"), r"asks for \w+\.__import__"),
}


@pytest.mark.parametrize("kind", CONTENTS)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "former"])
def test_a_hostile_checkpoint_of_a_model_is_refused(tmp_path, capsys, kind, zipped):
    folder, (content, named) = model(tmp_path), CONTENTS[kind]
    path, mark = folder / "fold_0" / CHECKPOINT, tmp_path / "mark"
    stored = {"network_weights": {"x": content(mark)}, "init_args": {"configuration": "3d_fullres"}}
    torch.save(stored, path, _use_new_zipfile_serialization=zipped)
    line = refused(folder, capsys)
    assert str(path) in line
    assert re.search(named, line), line
    assert not mark.exists()


def test_the_tar_of_former_versions_is_refused(tmp_path, capsys):
    folder, mark = model(tmp_path), tmp_path / "mark"
    with tarfile.open(folder / "fold_0" / CHECKPOINT, "w") as archive:
        for name in ("sys_info", "pickle", "tensors", "storages"):
            content = pickle.dumps(Asks(os.system, f"touch {mark}"))
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    assert "legacy .tar format" in refused(folder, capsys)
    assert not mark.exists()


def test_a_checkpoint_that_unpacks_to_more_than_the_limit_is_refused(tmp_path, capsys, monkeypatch):
    folder = model(tmp_path)
    with zipfile.ZipFile(folder / "fold_0" / CHECKPOINT, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(1_000_000))
    monkeypatch.setattr(checkpoint, "MOST_BYTES", 500_000)
    assert "has 1,000,000 bytes, 500,000 are the most" in refused(folder, capsys)


@pytest.mark.parametrize(
    ("member", "named"),
    [
        ("../outside/plans.json", "its member '../outside/plans.json' would be written outside"),
        ("/etc/plans.json", "its member '/etc/plans.json'"),
        ("..\\plans.json", r"its member '..\plans.json'"),
        ("C:/plans.json", "its member 'C:/plans.json'"),
        ("model.zip", "holds no plans.json"),
    ],
)
def test_a_zip_that_holds_something_else_is_refused(tmp_path, capsys, member, named):
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr(member, (MODELS / "regions" / "model.zip").read_bytes())
    assert named in refused(tmp_path / "bad.zip", capsys)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.zip"]


@pytest.mark.parametrize("name", ["plans.json", f"fold_0/{CHECKPOINT}"])
def test_a_link_out_of_the_folder_is_refused(tmp_path, capsys, name):
    folder, outside = model(tmp_path / "model"), tmp_path / "outside"
    (folder / name).rename(outside)
    (folder / name).symlink_to(outside)
    assert f"{folder / name}: is a link to {outside}, outside the folder" in refused(folder, capsys)


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (lambda of, data: of.update(patch_size=[10**9] * 3), "a patch_size of [1000000000"),
        (lambda of, data: of.update(patch_size=[16, -16, 16]), "a patch_size of [16, -16"),
        (lambda of, data: of.update(patch_size="large"), "a patch_size of large"),
        (lambda of, data: of.update(spacing=[0.0, 1.0, 1.0]), "spacing_mm"),
        (lambda of, data: of.update(spacing=[float("nan")] * 3), "spacing_mm"),
        (lambda of, data: of["architecture"]["arch_kwargs"].update(n_stages=10**9), "1000000000 stages"),
        (lambda of, data: of["architecture"]["arch_kwargs"].update(features_per_stage=[10**5] * 3), "the shape of"),
        (lambda of, data: of["architecture"]["arch_kwargs"].update(n_conv_per_stage=10**9), "n_conv_per_stage"),
        (lambda of, data: of["architecture"]["arch_kwargs"].update(kernel_sizes=[[10**6] * 3] * 3), "cannot be built"),
        (lambda of, data: of["architecture"]["arch_kwargs"].update(strides=[[0, 1, 1]] * 3), "strides"),
        (lambda of, data: of["architecture"].update(arch_kwargs=None), "plans.json: holds a value of the wrong type"),
        (lambda of, data: data.update(channel_names={"0": "T1", "1": "T2"}), "names 2 channels, but plans.json norm"),
        (lambda of, data: data.update(channel_names={"first": "T1"}), "holds a value of the wrong type"),
        (lambda of, data: data["labels"].update(more=[3]), "regions_class_order"),
        (lambda of, data: data.update(labels=["background", "a"]), "holds a value of the wrong type"),
        (lambda of, data: data.update(labels={"background": 0, "a": 1, "b": 2}), "the shape of"),
    ],
    ids=lambda value: None,
)
def test_plans_with_absurd_sizes_or_another_data_set_are_refused(tmp_path, capsys, edit, named):
    folder = model(tmp_path, edit)
    line = refused(folder, capsys)
    assert named in line
    assert str(folder) in line


def test_arrays_of_objects_in_a_reference_are_refused(tmp_path, capsys):
    (tmp_path / "given").mkdir()
    np.savez(tmp_path / "given" / "case.npz", input=np.array([Asks(os.system, "true")], object), logits=np.zeros(1))
    line = refused(model(tmp_path / "model"), capsys, "--reference", str(tmp_path / "given"))
    assert "case.npz: cannot be read (Object arrays cannot be loaded" in line


def test_references_of_a_bundle_that_multiply_are_refused(tmp_path, capsys):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "metadata.json").write_text("{}")
    levels = {f"a{level}": [f"@a{level + 1}"] * 9 for level in range(20)}
    content = {**levels, "a20": 1, "network_def": {"_target_": "DynUNet", "filters": "@a0"}}
    (tmp_path / "configs" / "inference.json").write_text(json.dumps(content))
    assert "multiply without end" in refused(tmp_path, capsys, framework="monai")
