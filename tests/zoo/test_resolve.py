"""Every function and command that takes the name of an entry understands the same names, and refuses them alike."""

from __future__ import annotations

import pytest

from cphloc.cli import main
from cphloc.errors import DataError, NotFoundError
from cphloc.zoo.lock import lock
from cphloc.zoo.resolve import resolve_entry, resolve_entry_or_run, resolve_run_or_entry


@pytest.fixture
def zoo(tmp_path, monkeypatch, put_entry):
    put_entry(tmp_path / "zoo", "unet3d-ct", "1.0.0")
    put_entry(tmp_path / "zoo", "unet3d-ct", "1.1.0")
    monkeypatch.setenv("CPHLOC_ZOO", str(tmp_path / "zoo"))
    return tmp_path / "zoo"


@pytest.mark.parametrize("resolve", [resolve_entry, resolve_run_or_entry])
def test_names_ranges_folders_and_pins(zoo, resolve):
    for spec, version in {"unet3d-ct": "1.1.0", "unet3d-ct@1.0.0": "1.0.0", "unet3d-ct@~1.0": "1.0.0"}.items():
        assert resolve(spec).version == version
    assert resolve(zoo / "unet3d-ct" / "1.0.0").version == "1.0.0"
    lock(["unet3d-ct@1.0.0"])
    assert resolve("unet3d-ct").version == "1.0.0"


@pytest.mark.parametrize("resolve", [resolve_entry_or_run, resolve_run_or_entry])
def test_latest_without_a_run(zoo, monkeypatch, resolve):
    monkeypatch.chdir(zoo)
    with pytest.raises(NotFoundError, match=r"no run yet under 'runs'.*cphloc train RECIPE"):
        resolve("latest")


@pytest.mark.parametrize("resolve", [resolve_entry, resolve_run_or_entry])
def test_a_version_that_is_not_there(zoo, resolve):
    with pytest.raises(NotFoundError, match=r"unet3d-ct has no version '\^0' in .*; it has 1\.1\.0, 1\.0\.0"):
        resolve("unet3d-ct@^0")


@pytest.mark.parametrize(
    "command",
    ["show", "verify", "audit", "evaluate", "export --out x.onnx", "predict --out x scan.nii", "screen", "compare me"],
)
@pytest.mark.parametrize(
    ("spec", "message"),
    [("unet3d-ct@^0", "unet3d-ct has no version '^0'"), ("unet3d-cd@1", "did you mean 'unet3d-ct'?"),
     ("unet3d-cd", "did you mean 'unet3d-ct'?")],
)  # fmt: skip
def test_every_command_refuses_a_name_alike(zoo, capsys, command, spec, message):
    name, *rest = command.split()
    (zoo.parent / "work" / "scan.nii").touch()
    assert main([name, spec, *rest]) == 2
    assert message in capsys.readouterr().err


def test_a_model_of_mlflow_that_changed_or_has_another_name_is_refused(tmp_path, put_entry, monkeypatch):
    from cphloc.tracking import model_registry

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    first, second = (put_entry(tmp_path / zoo, "unet3d-ct", "1.0.0") for zoo in ("a", "b"))
    (second / "entry.yaml").write_text((first / "entry.yaml").read_text().replace("First version.", "Other."))
    monkeypatch.setattr(model_registry, "download_entry", lambda spec: first)
    assert resolve_entry("models:/unet3d-ct/1").place == first
    assert resolve_entry("models:/unet3d-ct/latest").place == first
    with pytest.raises(DataError, match=r"models:/other/1: is the entry unet3d-ct@1\.0\.0, not 'other'"):
        resolve_entry("models:/other/1")
    monkeypatch.setattr(model_registry, "download_entry", lambda spec: second)
    with pytest.raises(DataError, match="changed on the server"):
        resolve_entry("models:/unet3d-ct/1")
    assert resolve_entry("models:/unet3d-ct@champion").place == second, "an alias may move"
