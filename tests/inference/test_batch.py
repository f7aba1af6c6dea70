from __future__ import annotations

import csv
import json
import shutil
from dataclasses import FrozenInstanceError
from html.parser import HTMLParser

import numpy as np
import pytest
import SimpleITK as sitk

from cphloc.cli import main
from cphloc.errors import InputError, NotFoundError
from cphloc.inference.batch import Case, cases_of
from cphloc.inference.batch_report import write_report
from cphloc.inference.localizer import Localizer

pytestmark = pytest.mark.usefixtures("own_folders")


def names(*inputs):
    return {case.name: case.source for case in cases_of([str(i) for i in inputs])}


@pytest.fixture
def scans(tmp_path):
    folder = tmp_path / "scans"
    for name in ("b/one.nii.gz", "b/two.png", "b/notes.txt", "a/one.nii.gz", "dicom/0001", "dicom/0002.dcm"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def test_folders_patterns_and_lists_name_the_cases(scans, tmp_path):
    assert names(scans) == {
        "a-one": str(scans / "a" / "one.nii.gz"),
        "b-one": str(scans / "b" / "one.nii.gz"),
        "two": str(scans / "b" / "two.png"),
        "dicom": str(scans / "dicom"),
    }
    assert list(names(scans / "*" / "one.nii.gz")) == ["a-one", "b-one"]
    assert names("ct=x/ct.nii.gz,pet=x/pet.nii.gz") == {"ct": {"ct": "x/ct.nii.gz", "pet": "x/pet.nii.gz"}}
    (tmp_path / "list.csv").write_text("case,ct,pet\np1,a/ct.mha,a/pet.mha\n,b/ct.mha,b/pet.mha\n")
    listed = names(tmp_path / "list.csv")
    assert listed["p1"] == {"ct": str(tmp_path / "a/ct.mha"), "pet": str(tmp_path / "a/pet.mha")}
    assert set(listed) == {"p1", "ct"}


def test_a_case_is_replaced_never_altered():
    with pytest.raises(FrozenInstanceError):
        Case("one", "one.png").name = "two"


def test_equal_names_are_told_apart(tmp_path):
    same = tmp_path / "x" / "scan.nii.gz"
    assert list(names(same, same)) == ["x-scan-1", "x-scan-2"]


def test_what_names_no_case_is_one_clear_error(tmp_path):
    with pytest.raises(NotFoundError, match="no file matches"):
        cases_of([str(tmp_path / "*.nii.gz")])
    (tmp_path / "list.csv").write_text("case,image\np1,\n")
    with pytest.raises(NotFoundError, match=r"list.csv:2: contains no image"):
        cases_of([str(tmp_path / "list.csv")])


@pytest.fixture
def inputs(published, tmp_path):
    """Three scans, the second of which is broken."""
    sample = next((published / "sample").glob("ct.*"))
    suffix = "".join(sample.suffixes)
    folder = tmp_path / "inputs"
    folder.mkdir()
    for name in ("a", "c"):
        shutil.copyfile(sample, folder / f"{name}{suffix}")
    (folder / f"b{suffix}").write_bytes(b"broken")
    return folder


def predict(published, inputs, out, *more):
    return main(["predict", str(published), str(inputs), "--out", str(out), *more])


def test_a_bad_case_stops_no_other_and_is_in_the_report(published, inputs, tmp_path, capsys):
    out = tmp_path / "out"
    assert predict(published, inputs, out, "--report", str(tmp_path / "report.csv")) == 1
    assert "error: " in capsys.readouterr().out
    rows = {row["case"]: row for row in csv.DictReader((tmp_path / "report.csv").open())}
    assert {name: row["status"] for name, row in rows.items()} == {"a": "done", "b": "failed", "c": "done"}
    assert "cannot be read" in rows["b"]["error"]
    assert float(rows["a"]["mass/volume_ml"]) >= 0
    assert float(rows["a"]["seconds"]) > 0
    assert not list(out.glob("b*"))


def test_finished_cases_are_not_done_again(published, inputs, tmp_path, capsys, monkeypatch):
    predicted = []
    ordinary = Localizer.predict

    def noted(self, source, *args, **options):
        predicted.append(source)
        return ordinary(self, source, *args, **options)

    monkeypatch.setattr(Localizer, "predict", noted)
    out = tmp_path / "out"
    predict(published, inputs, out)
    assert len(predicted) == 3
    predict(published, inputs, out, "--json")
    capsys.readouterr()
    assert len(predicted) == 4, "only the one that failed"
    (out / "a_mask.nii.gz").unlink()
    predict(published, inputs, out)
    assert len(predicted) == 6, "a result that is gone is made again"
    predict(published, inputs, out, "--overlap", "0.25")
    assert len(predicted) == 9, "other options are another result"
    predict(published, inputs, out, "--overlap", "0.25", "--redo")
    assert len(predicted) == 12


def test_a_crash_of_the_model_is_a_row_like_any_other(published, inputs, tmp_path, monkeypatch, capsys):
    def fails(self, source, *args, **options):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(Localizer, "predict", fails)
    assert predict(published, inputs, tmp_path / "out", "--json") == 1
    rows = json.loads(capsys.readouterr().out)
    assert {row["error"] for row in rows} == {"RuntimeError: out of memory"}


def test_two_entries_with_a_comma_are_averaged(published, tmp_path, capsys):
    sample = next((published / "sample").glob("ct.*"))
    spec = f"{published},{published}"
    assert main(["predict", spec, str(sample), "--out", str(tmp_path / "out"), "--uncertainty", "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)
    assert any(file.endswith("_uncertainty.nii.gz") for file in row["files"])
    expected = np.load(published / "sample" / "expected_mask.npz")["mask"]
    found = sitk.GetArrayFromImage(sitk.ReadImage(next(f for f in row["files"] if f.endswith("_mask.nii.gz"))))
    assert (found != expected).sum() <= 0.01 * (expected > 0).sum()


ROWS = [
    {"case": "a<b", "status": "done", "seconds": 1.25, "error": "", "input": {"ct": "x"}, "boxes": [{}, {}]},
    {"case": "c", "status": "failed", "seconds": 0.5, "error": "no", "input": "c.nii", "probabilities": {"t": 0.5}},
]


@pytest.mark.parametrize("suffix", [".csv", ".json", ".html"])
def test_a_report_holds_every_case(tmp_path, suffix):
    path = tmp_path / f"report{suffix}"
    write_report(path, ROWS)
    text = path.read_text()
    if suffix == ".json":
        assert json.loads(text) == ROWS
    elif suffix == ".csv":
        first, last = csv.DictReader(text.splitlines())
        assert (first["case"], first["input"], first["boxes"], last["p/t"]) == ("a<b", "ct=x", "2", "0.5")
    else:
        HTMLParser().feed(text)
        assert "a&lt;b" in text
        assert "2 cases, 1 failed" in text


def test_another_report_is_refused_before_anything_is_predicted(published, inputs, tmp_path, capsys):
    with pytest.raises(InputError, match="must end in"):
        write_report(tmp_path / "report.xlsx", ROWS)
    assert predict(published, inputs, tmp_path / "out", "--report", "report.xlsx") == 2
    assert not (tmp_path / "out").exists()
    assert Case("a", "b").name == "a"
