"""YOLO text files, written here and read back; masks as pycocotools draws the polygons."""

import shutil

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle

from cphloc.data.case import read_case
from cphloc.data.datasets.yolo import Yolo
from cphloc.errors import DataError
from cphloc.structures.split import SPLITS

DATA = "path: .\ntrain: images/train\nval: images/val\nnames:\n  0: red\n  1: white\n"
POLYGON = [0.1, 0.1, 0.6, 0.2, 0.5, 0.8, 0.2, 0.7]


def yolo(root, lines, data=DATA, picture="images/train/a.png", labels="labels/train/a.txt", encoding="utf-8"):
    for path in (root / picture, root / "images/val/b.png", root / labels):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 20)).save(root / picture)
    Image.new("RGB", (40, 20)).save(root / "images/val/b.png")
    if lines is not None:
        (root / labels).write_text("\n".join(lines), encoding=encoding)
    (root / "data.yaml").write_text(data, encoding=encoding)
    return Yolo(str(root))


def first(dataset, split="train"):
    return read_case(dataset.cases(split)[0], 2)[1]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_boxes_become_edges_in_array_order(tmp_path, encoding):
    lines = ["1 0.5 0.25 0.2 0.5", "", "0 0.1 0.5 0.2 1.0", "0 0.1 0.5 0.2 1.0"]
    dataset = yolo(tmp_path, lines, DATA.replace("white", "wei\u00df"), encoding=encoding)
    found = first(dataset)
    assert dataset.classes == {1: "red", 2: "wei\u00df"}
    assert dataset.file_numbers == {1: 0, 2: 1}
    np.testing.assert_allclose(found.boxes, [[0, 16, 10, 24], [0, 0, 20, 8]], atol=1e-5)
    assert found.box_classes.tolist() == [2, 1]
    assert found.mask is None


def test_polygons_give_masks(tmp_path):
    found = first(yolo(tmp_path, ["1 " + " ".join(map(str, POLYGON))]))
    pixels = [v * (40, 20)[k % 2] for k, v in enumerate(POLYGON)]
    expected = rle.decode(rle.merge(rle.frPyObjects([pixels], 20, 40)))
    np.testing.assert_array_equal(found.mask, 2 * expected)
    np.testing.assert_allclose(found.boxes, [[2, 4, 16, 24]], atol=1e-5)


@pytest.mark.parametrize("lines", [None, [], [""]], ids=["no file", "empty", "blank"])
def test_a_picture_without_objects_is_negative(tmp_path, lines):
    found = first(yolo(tmp_path, lines))
    assert found.boxes.shape == (0, 4)
    assert found.completed((20, 40), 2).label.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("data", "picture", "labels"),
    [
        (DATA, "images/train/deep/a.jpg", "labels/train/deep/a.txt"),
        ("train: ../train/images\nnames: [red, white]\nnc: 2", "train/images/a.png", "train/labels/a.txt"),
        ("train: [images/train]\nval: images/val\nnames: [red, white]", "images/train/a.png", "labels/train/a.txt"),
        ("train: list.txt\nval: images/val\nnames: {0: red, 1: white}", "images/a.png", "labels/a.txt"),
        ("path: /elsewhere\ntrain: images/train\nnames: [red, white]", "images/train/a.png", "labels/train/a.txt"),
    ],
    ids=["folders", "roboflow", "list of folders", "list of pictures", "moved"],
)  # fmt: skip
def test_folders_as_tools_lay_them_out(tmp_path, data, picture, labels):
    (tmp_path / "list.txt").write_text("./images/a.png\n\n")
    dataset = yolo(tmp_path, ["1 0.5 0.5 0.5 0.5"], data, picture, labels)
    assert first(dataset).box_classes.tolist() == [2]
    assert len(dataset.cases("train")) == 1


def test_folders_of_labelling_tools_list_their_classes(tmp_path):
    yolo(tmp_path, ["1 0.5 0.5 0.5 0.5"])
    (tmp_path / "data.yaml").unlink()
    (tmp_path / "classes.txt").write_bytes(b"\xef\xbb\xbfred\r\nwhite\r\n\r\n")
    dataset = Yolo(str(tmp_path))
    assert dataset.classes == {1: "red", 2: "white"}
    assert [[case.id for case in dataset.cases(split)] for split in SPLITS] == [["train/a"], ["val/b"], []]
    for k in range(40):
        Image.new("RGB", (40, 20)).save(tmp_path / f"images/{k}.png")
    for split in ("train", "val"):
        shutil.rmtree(tmp_path / "images" / split)
    dataset = Yolo(str(tmp_path))
    found = [{case.id for case in dataset.cases(split)} for split in SPLITS]
    assert set.union(*found) == {str(k) for k in range(40)}
    assert sum(map(len, found)) == 40
    assert all(found)


def test_key_points_after_a_box_are_not_a_polygon(tmp_path):
    found = first(yolo(tmp_path, ["0 0.5 0.5 0.5 0.5 0.1 0.1 2 0.2 0.2 2"], DATA + "kpt_shape: [2, 3]\n"))
    np.testing.assert_allclose(found.boxes, [[5, 10, 15, 30]], atol=1e-5)


@pytest.mark.parametrize(
    ("lines", "data", "message"),
    [
        (["2 0.5 0.5 0.5 0.5"], DATA, r"a.txt:1: has the undeclared class 2; the classes are 0, 1"),
        (["", "0 5 5 3 3"], DATA, r"a.txt:2: has a coordinate outside \[0, 1\]; divide pixels"),
        (["0 0.5 0.5 0.5"], DATA, "a.txt:1: has 3 coordinates"),
        (["0 0.5 0.5 0.5 0.5 0.9"], DATA, "a.txt:1: has 5 coordinates"),
        (["red 0.5 0.5 0.5 0.5"], DATA, "a.txt:1: is not a line of numbers"),
        ([], "train: images/train", "data.yaml: states no names"),
        ([], "names: {a: b}", "data.yaml: names must be numbered"),
        ([], "names: [a]\nnc: 2", "data.yaml: nc is 2 but it has 1 names"),
        ([], "names: [a", "data.yaml: cannot be read as YAML"),
        ([], "names: [a]\ntrain: nowhere", "data.yaml: 'nowhere' does not exist"),
    ],
)
def test_mistakes_name_file_and_line(tmp_path, lines, data, message):
    with pytest.raises(DataError, match=message):
        first(yolo(tmp_path, lines, data))


def test_without_a_folder_of_text_files_pictures_are_not_annotated(tmp_path, caplog):
    dataset = yolo(tmp_path, None)
    shutil.rmtree(tmp_path / "labels")
    found = first(dataset)
    assert found.boxes is None
    assert f"{tmp_path / 'labels' / 'train'}: does not exist: its pictures are not annotated" in caplog.text


def test_names_of_classes_that_yaml_takes_for_truth_values_or_numbers_stay_names(tmp_path):
    data = "train: images/train\nnc: 3\nnames: {0: no, 1: on, 2: 007}\n"
    dataset = yolo(tmp_path, ["2 0.5 0.5 0.5 0.5"], data)
    assert dataset.classes == {1: "no", 2: "on", 3: "007"}
    assert first(dataset).box_classes.tolist() == [3]
