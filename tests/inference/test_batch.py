from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import shutil
import signal
from dataclasses import FrozenInstanceError
from html.parser import HTMLParser

import numpy as np
import pytest
import SimpleITK as sitk

import cphloc
from cphloc.cli import main
from cphloc.errors import InputError, NotFoundError
from cphloc.inference import batch
from cphloc.inference.batch import Case, cases_of, predict_cases
from cphloc.inference.batch_cluster import Job, predict_over
from cphloc.inference.batch_report import write_report
from cphloc.inference.localizer import Localizer
from cphloc.zoo.load import load

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


def test_equal_names_are_told_apart_and_equal_files_are_one_case(tmp_path):
    first, second = (tmp_path / above / "x" / "scan.nii.gz" for above in "ab")
    assert list(names(first, second, first)) == ["x-scan-1", "x-scan-2"]


def test_the_folder_of_the_first_channel_tells_equal_names_apart():
    pairs = [f"ct=data/{name}/ct.nii,pet=data/pets/{name}.nii" for name in ("one", "two")]
    assert list(names(*pairs)) == ["one-ct", "two-ct"]


RESULTS = ("p_mask.nii.gz", "p_attention.nii.gz", "p_seg.dcm", "p_boxes.csv", "p_overlay.png", "p_result.json")


@pytest.mark.parametrize("interrupted", [False, True])
def test_results_of_an_earlier_prediction_are_no_images(tmp_path, interrupted):
    out = tmp_path / "scans" / "out"
    out.mkdir(parents=True)
    for file in (tmp_path / "scans" / "p.nii.gz", tmp_path / "scans" / "q_mask.nii.gz", *(out / r for r in RESULTS)):
        file.write_bytes(b"")
    if interrupted:  # while the files were written: the last one is not there, and the record says what was begun
        (out / "p_result.json").unlink()
        (out / ".cphloc").mkdir()
        (out / ".cphloc" / "p.json").write_text("{}")
    scans = tmp_path / "scans"
    images = {"p": str(scans / "p.nii.gz"), "q_mask": str(scans / "q_mask.nii.gz")}
    assert names(scans) == images, "a mask that no result lies beside is an image like any other"
    assert names(scans / "**" / "*.nii.gz") == names(scans / "**") == images
    assert names(*sorted(scans.rglob("p*.*z"))) == {"p": images["p"]}
    with pytest.raises(NotFoundError, match="only results of an earlier prediction"):
        cases_of([str(out)])


def test_a_link_to_a_folder_above_is_followed_once(scans):
    (scans / "a" / "up").symlink_to(scans)
    assert sorted(names(scans)) == ["a-one", "b-one", "dicom", "two"]


def test_previews_beside_dicom_are_no_cases_and_text_is_none(scans):
    for name in ("dicom/preview.jpg", "dicom/README", "b/notes/read me.txt"):
        (scans / name).parent.mkdir(exist_ok=True)
        (scans / name).write_bytes(b"text")
    assert sorted(names(scans)) == ["a-one", "b-one", "dicom", "two"]


@pytest.mark.parametrize("name", ["a/../../out", "/tmp/x", "..", "a\\b", "a\x1bb"])
def test_a_case_name_that_leads_elsewhere_is_a_problem_of_that_case(tmp_path, name):
    (tmp_path / "list.csv").write_text(f"case,image\n{name},a.nii\n\n,b.nii\n")
    first, second = cases_of([str(tmp_path / "list.csv")])
    assert "list.csv:2: case " in first.problem
    assert (second.name, second.problem) == ("b", "")


def test_a_changed_file_is_noticed_whatever_its_size_and_time(tmp_path):
    found = []
    for content in (b"abc", b"abd", b"abc"):
        (tmp_path / "one.png").write_bytes(content)
        os.utime(tmp_path / "one.png", (20, 20))
        found.append(batch._content(str(tmp_path / "one.png")))
    assert found[0] == found[2] != found[1]
    assert batch._content(str(tmp_path / "missing.png")) == ""


def test_what_names_no_case_is_one_clear_error(tmp_path):
    with pytest.raises(NotFoundError, match="no file matches"):
        cases_of([str(tmp_path / "*.nii.gz")])
    (tmp_path / "list.csv").write_text("case,image\np1,\n")
    (empty,) = cases_of([str(tmp_path / "list.csv")])
    assert re.search(r"list.csv:2: contains no image", empty.problem)
    (twice,) = cases_of(["ct=a.nii,ct=b.nii"])
    assert "names the channel 'ct' twice" in twice.problem


def test_a_row_without_an_image_stops_no_other(tmp_path):
    (tmp_path / "list.csv").write_text("case,image\np1,\n,\n,a.nii\np3,a.nii\n")
    assert [(c.name, bool(c.problem)) for c in cases_of([str(tmp_path / "list.csv")])] == [
        ("p1", True),
        ("a", False),
        ("p3", False),
    ]


def test_the_table_of_a_data_set_lists_images_to_predict(tmp_path):
    head = "Case,image_ct,image_pet,unit_pet,Patient,split,mask,instances_mass,x-note\n"
    (tmp_path / "cases.csv").write_text(head + "p1,ct.mha,pet.mha,SUV,7,test,m.nii,i.nii,seen twice\n")
    (case,) = cases_of([str(tmp_path / "cases.csv")])
    assert case.name == "p1"
    assert case.source == {"ct": str(tmp_path / "ct.mha"), "pet": str(tmp_path / "pet.mha")}
    assert case.units == {"pet": "SUV"}
    (tmp_path / "cases.csv").write_text("IMAGE;label\na.nii;none\n")
    assert names(tmp_path / "cases.csv") == {"a": str(tmp_path / "a.nii")}


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


def test_units_and_warnings_are_on_screen_in_the_result_and_in_the_report(published, tmp_path, capsys):
    """A CT of 0 to 255 gets a warning in all outputs, a table states units, and --strict refuses."""
    sample = next((published / "sample").glob("ct.*"))
    image = sitk.ReadImage(str(sample))
    hounsfield = sitk.GetArrayFromImage(image).astype(float)
    bytes_ = (hounsfield - hounsfield.min()) * 255 / np.ptp(hounsfield)
    for name, values in (("bytes", bytes_), ("tens", 10 * hounsfield)):
        scaled = sitk.GetImageFromArray(values.astype(np.float32))
        scaled.CopyInformation(image)
        sitk.WriteImage(scaled, str(tmp_path / f"{name}.nii.gz"))
    table, out, report = tmp_path / "cases.csv", tmp_path / "out", tmp_path / "report.csv"
    table.write_text(f"case,image,unit_ct\nfine,{sample},HU\nbytes,bytes.nii.gz,\ntens,tens.nii.gz,HU x 10\n")
    assert predict(published, table, out, "--report", str(report)) == 0
    shown = capsys.readouterr().out
    assert "warning: channel 'ct': its values, mostly from" in shown
    assert "no unit in the file; taken in that of the model: ct as CT numbers" in shown
    rows = {row["case"]: row for row in csv.DictReader(report.open())}
    assert {name: bool(row["warnings"]) for name, row in rows.items()} == {"fine": False, "bytes": True, "tens": False}
    assert {row["unit/ct"] for row in rows.values()} == {"HU"}
    saved = {name: json.loads((out / f"{name}_result.json").read_text()) for name in rows}
    assert {name: of["inputs"]["ct"]["stated"] for name, of in saved.items()} == {
        "fine": "user",
        "bytes": "entry",
        "tens": "user",
    }
    assert saved["bytes"]["warnings"] == [rows["bytes"]["warnings"]]
    assert saved["fine"]["measurements"] == saved["tens"]["measurements"]
    assert predict(published, tmp_path / "bytes.nii.gz", tmp_path / "strict", "--strict") == 2
    assert "hardly HU" in capsys.readouterr().out
    assert predict(published, sample, tmp_path / "other", "--unit", "ct=SUV") == 2
    assert "SUV cannot be converted" in "".join(capsys.readouterr())
    assert predict(published, sample, tmp_path / "other", "--unit", "ct") == 2
    assert "a unit is stated as CHANNEL=UNIT" in capsys.readouterr().err


def test_results_name_the_model_its_weights_and_the_input(published, inputs, tmp_path):
    scan = next(inputs.glob("a.*"))
    out = tmp_path / "out"
    assert predict(published, scan, out, "--report", str(out / "r.csv")) == 0
    weights = hashlib.sha256((published / "model.safetensors").read_bytes()).hexdigest()
    facts = json.loads((out / "a_result.json").read_text())
    made_by = {"name": "tiny", "version": "1.0.0", "weights_sha256": weights, "cphloc": cphloc.__version__}
    assert facts["models"] == [made_by]
    assert list(facts["input_sha256"]) == [str(scan)]
    row = next(csv.DictReader((out / "r.csv").open()))
    assert (row["model"], row["weights_sha256"], row["cphloc"]) == ("tiny@1.0.0", weights, cphloc.__version__)
    assert facts["input_sha256"] == {str(scan): hashlib.sha256(scan.read_bytes()).hexdigest()}
    assert [row["input_sha256"]] == list(facts["input_sha256"].values())
    *_, saved = cphloc.load(published).predict(scan).save(tmp_path / "python")
    written = json.loads(saved.read_text())
    assert (written["models"], written["input_sha256"]) == (facts["models"], facts["input_sha256"])


def test_finished_cases_are_not_done_again(published, inputs, tmp_path):
    model, cases, out = load(published), cases_of([str(inputs)]), tmp_path / "out"

    def statuses(**options):
        return [row["status"] for row in predict_cases(model, cases, out, **options)]

    assert statuses() == ["done", "failed", "done"]
    assert statuses() == ["kept", "failed", "kept"], "what failed is tried again"
    (out / "a_mask.nii.gz").unlink()
    assert statuses() == ["done", "failed", "kept"], "a result that is gone is made again"
    whole = (out / "c_mask.nii.gz").read_bytes()
    (out / "c_mask.nii.gz").write_bytes(whole[:-1] + b"?")
    assert statuses() == ["kept", "failed", "done"], "a result that is damaged is made again"
    assert (out / "c_mask.nii.gz").read_bytes() == whole
    assert statuses(overlap=0.25) == ["done", "failed", "done"], "other options are another result"
    assert statuses(overlap=0.25, redo=True) == ["done", "failed", "done"]


def test_a_crash_of_the_model_is_a_row_like_any_other(published, inputs, tmp_path, monkeypatch):
    def fails(self, source, *args, **options):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(Localizer, "predict", fails)
    rows = list(predict_cases(load(published), cases_of([str(inputs)]), tmp_path / "out"))
    assert [row["error"] for row in rows] == [f"{row['input']}: RuntimeError: out of memory" for row in rows]


def test_a_reader_that_kills_its_process_costs_one_case(published, inputs, tmp_path):
    jobs = [Job((str(published),), "torch", case, "out", None, False, {}) for case in cases_of([str(inputs)])]
    first, second, third = predict_over(jobs, "local", load_fragile)
    assert [row["status"] for row in (first, second, third)] == ["done", "failed", "done"]
    assert f"{jobs[1].case.source}: the process that predicted it ended with SIGSEGV" in second["error"]


def load_fragile(spec, backend):
    """Load a model whose reader crashes on the broken scan."""
    from cphloc.inference import inputs

    read = inputs.read_volume

    def crashing(source, *arguments, **options):
        if "b." in source:
            os.kill(os.getpid(), signal.SIGSEGV)
        return read(source, *arguments, **options)

    inputs.read_volume = crashing
    return load(spec, backend=backend)


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


def test_the_links_of_a_page_of_results_lead_to_its_pictures_only(tmp_path):
    name = "javascript:alert(1);a?b#c"
    row = {"case": name, "status": "done", "files": [str(tmp_path / f"{name}_overlay.png")]}
    write_report(tmp_path / "r.html", [row])
    page = (tmp_path / "r.html").read_text()
    assert 'href="javascript%3Aalert%281%29%3Ba%3Fb%23c_overlay.png"' in page
