"""Faults put into a small data set are found, and nothing else is."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from cphloc.cli import main
from cphloc.data.inspection.check import Report, check_data
from cphloc.data.inspection.examine import examine
from cphloc.data.inspection.look import look
from cphloc.data.inspection.source import Source
from cphloc.data.inspection.vanishing import vanishing
from cphloc.data.io.read import read_volume
from cphloc.data.pipeline.preprocess import Preprocess
from cphloc.errors import NotFoundError
from cphloc.recipe.recipe import load

Rows = list[dict[str, str]]
SIZES = {2: (48, 56), 3: (20, 24, 28)}


def _case(rng: np.random.Generator, dims: int) -> tuple[np.ndarray, np.ndarray]:
    """A textured image, dark outside, with a bright organ of class 1 and, two voxels away, a lesion of class 2."""
    size = SIZES[dims]
    texture = ndimage.gaussian_filter(rng.normal(size=size), 1.5)
    image = 100 + 30 * texture / texture.std()
    image[tuple(slice(0, n // 5) for n in size[:1])] = rng.normal(5, 1)
    mask = np.zeros(size, np.uint8)
    shift = rng.integers(-1, 2, dims)
    first = tuple(slice(n // 2 - 6 + s, n // 2 - 1 + s) for n, s in zip(size, shift, strict=True))
    mask[first] = 1
    second = (*first[:-1], slice(first[-1].stop + 1, first[-1].stop + 6))
    mask[second] = 2
    image[mask == 1] += 60
    image[mask == 2] += 100
    return image.clip(0, 255), mask


def _write(path: Path, array: np.ndarray, spacing: float = 2.0) -> None:
    picture = sitk.GetImageFromArray(array)
    picture.SetSpacing((spacing,) * array.ndim)
    path.parent.mkdir(exist_ok=True)
    sitk.WriteImage(picture, str(path), useCompression=True)


def _read(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def _table(root: Path, rows: Rows) -> None:
    with (root / "cases.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["case", "patient", "split", "image", "mask"])
        writer.writeheader()
        writer.writerows(rows)


def _make(root: Path, dims: int, count: int = 24) -> Rows:
    """A clean data set of ``count`` cases, every fourth in val and test."""
    rng = np.random.default_rng(dims)
    rows = []
    for k in range(count):
        image, mask = _case(rng, dims)
        _write(root / f"images/c{k:02}.mha", image.astype(np.float32))
        _write(root / f"masks/c{k:02}.mha", mask)
        split = {0: "val", 1: "test"}.get(k % 8, "train")
        files = {"image": f"images/c{k:02}.mha", "mask": f"masks/c{k:02}.mha"}
        rows.append({"case": f"c{k:02}", "patient": f"p{k:02}", "split": split, **files})
    _table(root, rows)
    return rows


@pytest.fixture(scope="module", params=[2, 3])
def clean(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Rows, int]:
    root = tmp_path_factory.mktemp(f"clean{request.param}")
    return root, _make(root, request.param), request.param


def _checked(root: Path, dims: int) -> Report:
    return check_data(Source.of_data(str(root), {"classes": ["organ", "lesion"]}, dims))


def _kinds(report: Report) -> dict[str, set[str]]:
    return {case.case.id: {finding.kind for finding in case.findings} for case in report.suspicious}


def _duplicated(root: Path, rows: Rows) -> dict[str, set[str]]:
    """The image of a training case, a little brighter and with noise, under another name in test."""
    image = _read(root / rows[2]["image"])
    noise = np.random.default_rng(0).normal(0, 1, image.shape)
    _write(root / "images/copy.mha", (image * 1.1 + noise).astype(np.float32))
    rows.append({**rows[2], "case": "copy", "patient": "other", "split": "test", "image": "images/copy.mha"})
    return {"copy": {"duplicate across splits"}, "c02": {"duplicate across splits"}}


def _inverted(root: Path, rows: Rows) -> dict[str, set[str]]:
    image = _read(root / rows[3]["image"])
    _write(root / rows[3]["image"], (image.max() - image).astype(np.float32))
    return {"c03": {"inverted"}}


def _spacing(root: Path, rows: Rows) -> dict[str, set[str]]:
    for kind in ("image", "mask"):
        _write(root / rows[4][kind], _read(root / rows[4][kind]), spacing=20.0)
    return {"c04": {"spacing", "extent", "class size"}}


def _empty(root: Path, rows: Rows) -> dict[str, set[str]]:
    _write(root / rows[5]["mask"], np.zeros_like(_read(root / rows[5]["mask"])))
    return {"c05": {"empty"}}


def _shifted(root: Path, rows: Rows) -> dict[str, set[str]]:
    """The lesion one voxel nearer, so that it touches the organ."""
    mask = _read(root / rows[6]["mask"])
    moved = np.where(mask == 1, mask, 0) + 2 * np.roll(mask == 2, -1, axis=-1)
    _write(root / rows[6]["mask"], moved.astype(np.uint8))
    return {"c06": {"touching"}}


def _patient(root: Path, rows: Rows) -> dict[str, set[str]]:
    """A second and third case of a training patient, one of them in test."""
    for k in (10, 7):
        rows[k]["patient"] = rows[11]["patient"]
    rows[10]["split"] = "test"
    return {"c10": {"patient in two splits"}}


def _torn(root: Path, rows: Rows) -> dict[str, set[str]]:
    (root / rows[12]["image"]).write_bytes(b"not an image")
    return {"c12": {"unreadable"}}


def _constant(root: Path, rows: Rows) -> dict[str, set[str]]:
    _write(root / rows[13]["image"], np.full_like(_read(root / rows[13]["image"]), 7))
    return {"c13": {"constant image", "intensity"}}


FAULTS = (_duplicated, _inverted, _spacing, _empty, _shifted, _patient, _torn, _constant)


def test_a_clean_data_set_has_no_suspicious_case(clean: tuple[Path, Rows, int]) -> None:
    assert _kinds(_checked(clean[0], clean[2])) == {}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__.strip("_"))
def test_a_fault_is_found_and_nothing_else(
    clean: tuple[Path, Rows, int], tmp_path: Path, fault: Callable[[Path, Rows], dict[str, set[str]]]
) -> None:
    root = shutil.copytree(clean[0], tmp_path / "data")
    rows = [dict(row) for row in clean[1]]
    expected = fault(root, rows)
    _table(root, rows)
    assert _kinds(_checked(root, clean[2])) == expected


def test_all_faults_together_come_first_in_order_of_weight(clean: tuple[Path, Rows, int], tmp_path: Path) -> None:
    root = shutil.copytree(clean[0], tmp_path / "data")
    rows = [dict(row) for row in clean[1]]
    expected = {name for fault in FAULTS for name in fault(root, rows)}
    _table(root, rows)
    report = _checked(root, clean[2])
    assert {case.case.id for case in report.suspicious} == expected
    assert report.cases[0].case.id == "c12"
    suspicions = [case.suspicion for case in report.cases]
    assert suspicions == sorted(suspicions, reverse=True)
    assert len(report.unreadable) == 1


def test_boxes_outside_the_image_and_twice_are_found(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    lines = ["image,boxes,split"]
    for k in range(8):
        _write(tmp_path / f"b{k}.png", rng.integers(0, 255, (30, 40)).astype(np.uint8), 1.0)
        boxes = [["cell", 5 + k, 5, 12 + k, 12]]
        boxes += [["cell", 20, 30, 35, 45]] if k == 3 else [["cell", 5 + k, 5, 12 + k, 12]] if k == 5 else []
        quoted = json.dumps(boxes).replace('"', '""')
        lines.append(f'b{k}.png,"{quoted}",{"val" if k % 4 else "train"}')
    (tmp_path / "cases.csv").write_text("\n".join(lines))
    found = _kinds(check_data(Source.of_data(str(tmp_path), {}, 2)))
    assert found == {"b3": {"box"}, "b5": {"box"}}


def test_objects_that_vanish_at_the_spacing_of_the_recipe(tmp_path: Path) -> None:
    _make(tmp_path, 3, count=3)
    mask = _read(tmp_path / "masks/c01.mha")
    mask[1, 1, 1] = 1  # a voxel of 2 mm, between the centres of voxels of 6 mm
    mask[1, 12, 20] = 1
    _write(tmp_path / "masks/c01.mha", mask)
    source = Source.of_data(str(tmp_path), {"classes": ["organ", "lesion"]}, 3)
    listed = [(c, s) for s in ("train", "val", "test") for c in source.dataset.cases(s)]
    cases = [examine(c, s, source.dataset.classes, 3, source.units) for c, s in listed]
    preprocess = Preprocess(3, (6.0, 6.0, 6.0), ())
    lost = {case.case.id: finding.text for case, finding in vanishing(cases, preprocess, 2)}
    assert list(lost) == ["c01"]
    number = preprocess.prepare_objects(mask, read_volume(tmp_path / "images/c01.mha").geometry)[1]
    assert f"{number} of 4 objects" in lost["c01"]


def test_look_states_size_unit_and_classes(clean: tuple[Path, Rows, int], tmp_path: Path) -> None:
    root, _, dims = clean
    seen = look(Source.of_data(str(root), {"classes": ["organ", "lesion"]}, dims), "c03")
    assert seen.facts["size"] == list(SIZES[dims])
    assert seen.facts["spacing"] == [2.0] * dims
    size = f"{5**dims * 2**dims / (1000 if dims == 3 else 1):.4g} {'mL' if dims == 3 else 'mm2'}"
    assert seen.facts["classes"] == dict.fromkeys(("organ", "lesion"), f"mask: {size}, connected parts: 1")
    seen.draw(tmp_path / "case.png")
    assert (tmp_path / "case.png").read_bytes().startswith(b"\x89PNG")


def test_look_suggests_a_name() -> None:
    with pytest.raises(NotFoundError, match="did you mean 'phantom_train_0000'"):
        look(Source.of_data("phantom"), "train-0000")


def test_the_page_escapes_names_and_holds_its_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    rows = _make(tmp_path / "data", 2, count=8)
    rows[1]["case"] = "<script>alert(1)</script>"
    (tmp_path / "data" / rows[1]["image"]).write_bytes(b"")
    _table(tmp_path / "data", rows)
    code = main(["data", "check", "data", "--dims", "2", "--set", "classes=[organ, lesion]", "--json"])
    facts = json.loads(capsys.readouterr().out)
    assert code == 1
    assert facts["unreadable"] == 1
    assert [case["case"] for case in facts["listed"]] == ["<script>alert(1)</script>"]
    page = Path(facts["page"]).read_text()
    assert "<script" not in page.replace("&lt;script", "")
    assert page.count("data:image/jpeg;base64,") == 7
    assert "default-src 'none'" in page


def test_a_recipe_is_checked_at_its_own_spacing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _make(tmp_path, 3, count=3)
    recipe = {
        "task": "segmentation",
        "dims": 3,
        "data": {
            "type": "image_folder",
            "root": str(tmp_path),
            "classes": ["organ", "lesion"],
            "spacing_mm": [4, 4, 4],
            "patch": [16, 16, 16],
        },
        "model": {
            "backbone": {"type": "conv_encoder", "widths": [8, 16]},
            "heads": {"mask": {"type": "unet", "classes": ["organ", "lesion"], "loss": {"type": "dice_ce"}}},
        },
    }
    source = Source.of_recipe(load(recipe))
    assert source.preprocess is not None
    assert source.preprocess.spacing_mm == (4, 4, 4)
    assert len(check_data(source).cases) == 3
