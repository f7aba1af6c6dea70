"""COCO files, compared with pycocotools."""

import contextlib
import io
import json

import numpy as np
import pytest
from PIL import Image, ImageOps
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from cphloc.data.case import read_case
from cphloc.data.datasets.coco import Coco
from cphloc.errors import DataError
from cphloc.metrics.detection import DetectionCase, match, mean_average_precision

CELLS = [{"id": 4, "name": "red"}, {"id": 9, "name": "white"}]
STAR = [[5.5, 2, 8, 9.5, 15, 10, 9, 14, 11, 22, 5, 16.5, 1, 20, 3.5, 12, 1, 8]]
PARTS = [[2, 2, 12, 2, 12, 9, 2, 9], [20, 10, 30, 12, 25, 22.5]]


def coco(root, annotations, images=None, split="train", categories=CELLS):
    """A data set of pictures of 24 x 36 pixels with one annotation file."""
    images = images or [{"id": 1, "file_name": "a.png", "width": 36, "height": 24}]
    for folder in ("images", "annotations"):
        (root / folder).mkdir(exist_ok=True)
    for image in images:
        if not (root / "images" / image["file_name"]).exists():
            Image.new("RGB", (36, 24)).save(root / "images" / image["file_name"])
    content = {"images": images, "annotations": annotations, "categories": categories}
    path = root / f"annotations/instances_{split}.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def item(number, category=4, bbox=(1, 2, 10, 12), image=1, **more):
    shared = {"category_id": category, "bbox": list(bbox), "area": 1, "iscrowd": 0}
    return {"id": number, "image_id": image, **shared, **more}


def reference(path):
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


def random_mask(seed):
    return (np.random.default_rng(seed).random((24, 36)) > 0.7).astype(np.uint8)


def runs(mask):
    """Uncompressed run lengths in column order, beginning with background."""
    flat = np.concatenate([[0], mask.ravel(order="F"), [2]])
    edges = np.flatnonzero(np.diff(flat))
    return np.diff(np.concatenate([[0], edges])).tolist()


def compressed(mask):
    encoded = rle.encode(np.asfortranarray(mask))
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


@pytest.mark.parametrize(
    "segmentation",
    [STAR, PARTS, {"size": [24, 36], "counts": runs(random_mask(0))}, compressed(random_mask(1))],
    ids=["polygon", "parts", "runs", "compressed"],
)
def test_outlines_are_the_pixels_of_pycocotools(tmp_path, segmentation):
    path = coco(tmp_path, [item(1, segmentation=segmentation), item(2, 9, segmentation=[[1, 1, 9, 1, 9, 9, 1, 9]])])
    (case,) = Coco(str(tmp_path)).cases("train")
    _, found = read_case(case, 2)
    tool = reference(path)
    first, second = (tool.annToMask(tool.anns[k]) for k in (1, 2))
    np.testing.assert_array_equal(found.mask, np.where(second, 2, first))
    assert found.boxes.tolist() == [[2, 1, 14, 11]] * 2


def test_crowds_and_objects_without_an_outline_are_unknown_in_the_mask(tmp_path):
    crowd = item(2, bbox=(20, 0, 10, 10), iscrowd=1, segmentation=compressed(random_mask(2)))
    path = coco(tmp_path, [item(1, segmentation=STAR), crowd, item(3, 9, bbox=(30, 20, 4, 3))])
    (case,) = Coco(str(tmp_path)).cases("train")
    _, found = read_case(case, 2)
    tool = reference(path)
    star, unknown = tool.annToMask(tool.anns[1]), tool.annToMask(tool.anns[2])
    unknown[20:23, 30:34] = 1
    np.testing.assert_array_equal(found.mask, np.where(star, 1, 255 * unknown))
    assert found.box_classes.tolist() == [1, -1, 2]
    done = found.completed((24, 36), 2)
    assert done.label.tolist() == [1, 1]
    assert done.objects[1].tolist() == [1, 2]


def test_touching_polygons_of_one_category_are_objects_of_their_own(tmp_path):
    """Of two that overlap, the later one has the voxels of both, as in the mask; a box without polygon has none."""
    one, two = [2, 2, 12, 2, 12, 9, 2, 9], [10, 2, 20, 2, 20, 9, 10, 9]
    coco(
        tmp_path,
        [
            item(1, bbox=(2, 2, 10, 7), segmentation=[one]),
            item(2, bbox=(22, 10, 6, 6)),
            item(3, bbox=(10, 2, 10, 7), segmentation=[two]),
        ],
    )
    found = read_case(Coco(str(tmp_path)).cases("train")[0], 2)[1]
    assert found.box_instances.tolist() == [1, 0, 3]
    assert [int((found.instances == k).sum()) for k in (1, 3)] == [8 * 7, 10 * 7]
    assert np.array_equal(found.instances > 0, found.mask == 1)


def test_an_image_with_only_a_crowd_is_neither_positive_nor_negative(tmp_path):
    coco(tmp_path, [item(1, iscrowd=1)])
    (case,) = Coco(str(tmp_path)).cases("train")
    done = read_case(case, 2)[1].completed((24, 36), 2)
    np.testing.assert_equal(done.label.tolist(), [np.nan, 0])
    assert done.region is None


@pytest.mark.parametrize("seed", range(4))
def test_average_precision_with_crowds_is_that_of_pycocotools(tmp_path, seed):
    rng = np.random.default_rng(seed)
    images = [{"id": k, "file_name": f"{k}.png", "width": 36, "height": 24} for k in range(1, 9)]

    def boxes(count):
        corner, size = rng.uniform(0, (26, 14), (count, 2)), rng.uniform(3, 10, (count, 2))
        return np.concatenate([corner, size], axis=1).tolist()

    truth = []
    for image in images:
        for bbox in boxes(3):
            size = {"area": bbox[2] * bbox[3], "iscrowd": int(rng.random() < 0.4)}
            truth.append(item(len(truth) + 1, 4, bbox, image["id"], **size))
    found = []
    for annotation in truth:
        x, y, w, h = annotation["bbox"]
        for bbox in ([x + rng.normal(), y, w, h], [x + 1, y + 1, w / 3, h / 3], *boxes(1)):
            found.append({"image_id": annotation["image_id"], "category_id": 4, "bbox": bbox, "score": rng.random()})
    tool = reference(coco(tmp_path, truth, images))
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(tool, tool.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    cases = []
    for image, case in zip(images, Coco(str(tmp_path)).cases("train"), strict=True):
        own = [f for f in found if f["image_id"] == image["id"]]
        detected = np.array([[y, x, y + h, x + w] for x, y, w, h in (f["bbox"] for f in own)])
        given = read_case(case, 2)[1]
        scores = np.array([f["score"] for f in own])
        cases.append(DetectionCase(detected, scores, np.ones(len(own), int), given.boxes, given.box_classes))
    assert mean_average_precision([match(cases)]) == pytest.approx(evaluation.stats[0], abs=1e-6)
    assert mean_average_precision([match(cases, iou_thresholds=[0.5])]) == pytest.approx(evaluation.stats[1], abs=1e-6)


@pytest.mark.parametrize(
    ("orientation", "stated"), [*((k, "shown") for k in range(1, 9)), *((k, "stored") for k in range(5, 9))]
)
def test_annotations_stay_on_their_object_whichever_size_is_stated(tmp_path, orientation, stated):
    """The size in the file says whether the annotation is of the picture as stored or as shown."""
    pixels = np.zeros((24, 36), np.uint8)
    pixels[3:9, 5:25] = 255
    exif = Image.Exif()
    exif[274] = orientation
    picture = Image.fromarray(np.stack([pixels] * 3, axis=-1))
    (tmp_path / "images").mkdir()
    picture.save(tmp_path / "images/a.png", exif=exif)
    shown = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "images/a.png")))[..., 0]
    annotated = pixels if stated == "stored" else shown
    rows, columns = np.nonzero(annotated)
    low, high = (columns.min(), rows.min()), (columns.max() + 1, rows.max() + 1)
    bbox = [*map(int, low), int(high[0] - low[0]), int(high[1] - low[1])]
    height, width = annotated.shape
    image = {"id": 1, "file_name": "a.png", "width": width, "height": height}
    coco(tmp_path, [item(1, bbox=bbox, segmentation=compressed((annotated > 0).astype(np.uint8)))], [image])
    volume, found = read_case(Coco(str(tmp_path)).cases("train")[0], 2)
    y0, x0, y1, x1 = found.boxes[0].astype(int)
    assert (volume.array[0, y0:y1, x0:x1] == 255).all()
    np.testing.assert_array_equal(found.mask, volume.array[0] // 255)


def test_categories_of_other_files_are_matched_by_name(tmp_path):
    coco(tmp_path, [item(1, 4)])
    coco(tmp_path, [item(1, 4)], split="val", categories=[{"id": 4, "name": "white"}, {"id": 5, "name": "red"}])
    coco(tmp_path, [], split="test", categories=[{"id": 4, "name": "rad"}])
    dataset = Coco(str(tmp_path))
    numbers = [read_case(dataset.cases(split)[0], 2)[1].box_classes.tolist() for split in ("train", "val")]
    assert numbers == [[1], [2]]
    with pytest.raises(DataError, match=r"instances_test.json: category 'rad' is not one .*; did you mean 'red'"):
        dataset.cases("test")


TWICE = [{"id": 1, "file_name": "a.png"}, {"id": 1, "file_name": "b.png"}]
LARGER = [{"id": 1, "file_name": "a.png", "width": 72, "height": 48}]


@pytest.mark.parametrize(
    ("annotations", "images", "message"),
    [
        ([item(1)], TWICE, "2 images have the id 1, as after merging files"),
        ([item(1), item(1)], None, "2 annotations have the id 1"),
        ([item(1, iscrowd="no")], None, "annotation 1 has 'no' for iscrowd; it must be 0 or 1"),
        ([item(1, "4")], None, r"lacks .* a known category_id \(KeyError\('4'\)\); ids must have one type"),
        ([item(1, bbox=(1, 2, 20, 18), segmentation=[[1, 2, 20, 2, 20, 18]])], None, "two corners by its"),
        ([item(1)], [{"id": 1}], "an image lacks an id or a file_name"),
        ([item(1)], LARGER, r"a.png: has 24 x 36 pixels .* but its annotation is of a picture of 48 x 72"),
        ([item(1, segmentation=[[1, 2, 3, 4]])], None, "annotation 1: a polygon .* is not three or more points"),
        ([item(1, segmentation={"size": [9, 9], "counts": [81]})], None, "object 1: its run lengths are of"),
        ([item(1, segmentation={"size": [24, 36], "counts": [5, 9]})], None, "object 1: its run lengths add up to 14"),
    ],
)  # fmt: skip
def test_mistakes_name_file_and_annotation(tmp_path, annotations, images, message):
    path = coco(tmp_path, annotations, [i for i in images if "file_name" in i] if images else None)
    if images and "file_name" not in images[0]:
        path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": CELLS}))
    with pytest.raises(DataError, match=message):
        read_case(Coco(str(tmp_path)).cases("train")[0], 2)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_files_of_any_editor_are_read(tmp_path, encoding):
    path = coco(tmp_path, [item(1)], categories=[{"id": 4, "name": "Läsion"}])
    path.write_text(json.dumps(json.loads(path.read_text()), ensure_ascii=False), encoding=encoding)
    assert Coco(str(tmp_path)).classes == {1: "Läsion"}


def test_crowds_and_boxes_are_read_as_tools_write_them(tmp_path):
    square = [[1, 2, 2, 2, 2, 4, 1, 4]]  # as small as the rounding of its box
    crowds = [item(k, iscrowd=value) for k, value in enumerate((1, True, "1", "0", 0, None, False), start=1)]
    coco(tmp_path, [*crowds, item(9, bbox=(1, 2, 1, 2), segmentation=square)])
    (case,) = Coco(str(tmp_path)).cases("train")
    assert case.annotation.box_classes == (-1, -1, -1, 1, 1, 1, 1, 1)
