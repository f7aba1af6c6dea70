"""Data sets in general layouts, written here and read back."""

import json
import unicodedata

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from cphloc.data.case import read_case
from cphloc.data.datasets.busi import Busi
from cphloc.data.datasets.coco import Coco
from cphloc.data.datasets.image_folder import ImageFolder
from cphloc.data.datasets.luna16 import Luna16
from cphloc.data.datasets.nnunet import NnUnet
from cphloc.data.datasets.sts_petct import StsPetct
from cphloc.data.datasets.voc import Voc
from cphloc.data.pipeline.pipeline import open_dataset
from cphloc.errors import DataError, InputError
from cphloc.metrics.detection import DetectionCase, average_precision, match, precision_recall
from cphloc.recipe.fields import Data
from cphloc.structures.annotation import Annotation


def write(path, array, spacing=None, direction=None, origin=None):
    """Write an array with x, y[, z] spacing, direction and origin."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    if spacing:
        image.SetSpacing(spacing)
    if direction:
        image.SetDirection(direction)
    if origin:
        image.SetOrigin(origin)
    sitk.WriteImage(image, str(path))
    return path


def picture(path, shape=(20, 30, 3)):
    return write(path, np.zeros(shape, np.uint8)) if len(shape) == 2 else _colour(path, shape)


def _colour(path, shape):
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros(shape, np.uint8), isVector=True), str(path))
    return path


def annotation_of(dataset, split="train") -> Annotation:
    (case,) = dataset.cases(split)
    return read_case(case, dataset.dims)[1]


def voc_folder(root, objects, name="cell"):
    picture(root / "JPEGImages" / f"{name}.png")
    for split in ("train", "val", "test"):
        path = root / "ImageSets/Main" / f"{split}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{name}\n" if split == "train" else "")
    (root / "Annotations").mkdir(exist_ok=True)
    (root / "Annotations" / f"{name}.xml").write_text(f"<annotation>{objects}</annotation>")
    return str(root)


def voc_object(name, x0, y0, x1, y1):
    corners = "".join(
        f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), (x0, y0, x1, y1), strict=True)
    )
    return f"<object><name>{name}</name><bndbox>{corners}</bndbox></object>"


def test_voc_counts_pixels_from_one_and_includes_the_last(tmp_path):
    root = voc_folder(tmp_path, voc_object("b", 1, 2, 30, 20) + voc_object("a", 5, 5, 5, 5))
    found = annotation_of(Voc(root, classes=["a", "b"]))
    assert found.boxes.tolist() == [[1, 0, 20, 30], [4, 4, 5, 5]]
    assert found.box_classes.tolist() == [2, 1]


def test_voc_finds_the_classes_that_are_not_stated(tmp_path):
    root = voc_folder(tmp_path, voc_object("b", 1, 2, 30, 20) + voc_object("a", 5, 5, 5, 5))
    assert Voc(root).classes == {1: "a", 2: "b"}
    with pytest.raises(DataError, match="no training annotation names an object; state the classes"):
        Voc(voc_folder(tmp_path, "<object>"))


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        (voc_object("c", 1, 1, 2, 2), "object 1 has the undeclared class 'c'; the classes are a, b"),
        (voc_object("a", 5, 1, 2, 2), "object 1 has an inverted box 5,1 to 2,2"),
        (voc_object("a", "x", 1, 2, 2), "object 1 lacks a number in its bndbox"),
        ("<object>", "is not a readable VOC annotation"),
    ],
)
def test_voc_mistakes_name_file_and_object(tmp_path, objects, message):
    root = voc_folder(tmp_path, objects)
    with pytest.raises(DataError, match=message) as error:
        annotation_of(Voc(root, classes=["a", "b"]))
    assert "cell.xml" in str(error.value)


@pytest.mark.parametrize("marked", ["1", "true", " 1 "])
def test_voc_objects_that_are_difficult_are_ignored(tmp_path, marked):
    """Everingham 2010: neither a miss nor, where one is detected, a false positive."""
    hard = voc_object("a", 11, 11, 20, 20).replace("</name>", f"</name><difficult>{marked}</difficult>")
    easy = voc_object("a", 1, 1, 5, 5).replace("</name>", "</name><difficult>0</difficult>")
    found = annotation_of(Voc(voc_folder(tmp_path, easy + hard), classes=["a"]))
    assert found.box_classes.tolist() == [1, -1]
    detected = np.array([[10, 10, 20, 20], [10, 10, 20, 20], [0, 0, 5, 5], [11, 11, 13, 13]], float)
    case = DetectionCase(detected, np.array([0.9, 0.8, 0.7, 0.6]), np.ones(4, int), found.boxes, found.box_classes)
    (curve,) = precision_recall(match([case], iou_thresholds=[0.5], rule="voc"))
    assert [part.tolist() for part in curve] == [[1, 1], [1, 0.5]]  # the small box within the difficult one is wrong
    assert average_precision(match([case], iou_thresholds=[0.5], rule="voc"), "all_point") == 1


@pytest.mark.parametrize(
    ("listing", "encoding"),
    [
        ("\ufeffcell\r\n\r\n", "utf-8"),
        ("cell\n", "utf-16"),
        ("cell.png\n", "utf-8"),
        ("cell  1\n", "utf-8"),
        ("  cell\r", "latin-1"),
    ],
)
def test_voc_lists_as_editors_write_them(tmp_path, listing, encoding):
    root = voc_folder(tmp_path, voc_object("a", 1, 2, 30, 20))
    (tmp_path / "ImageSets/Main/train.txt").write_bytes(listing.encode(encoding))
    assert [case.id for case in Voc(root).cases("train")] == ["cell"]
    root = voc_folder(tmp_path / "two", voc_object("a", 1, 2, 30, 20), name="cell 1")
    assert [case.id for case in Voc(root).cases("train")] == ["cell 1"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16"])
@pytest.mark.parametrize("declared", ["", '<?xml version="1.0"?>\n'])
def test_voc_annotations_in_any_encoding(tmp_path, encoding, declared):
    root = voc_folder(tmp_path, "")
    text = f"{declared}<annotation>{voc_object(chr(0xE4), 1, 2, 30, 20)}</annotation>"
    (tmp_path / "Annotations/cell.xml").write_bytes(text.encode(encoding))
    assert Voc(root).classes == {1: chr(0xE4)}


@pytest.mark.parametrize(("size", "refused"), [("30x20", False), ("0x0", False), ("", False), ("60x40", True)])
def test_voc_annotations_of_a_picture_of_another_size_are_refused(tmp_path, size, refused):
    width, _, height = size.partition("x")
    stated = f"<size><width>{width}</width><height>{height}</height></size>" if size else ""
    dataset = Voc(voc_folder(tmp_path, stated + voc_object("a", 1, 2, 30, 20)))
    if not refused:
        assert annotation_of(dataset).boxes.tolist() == [[1, 0, 20, 30]]
        return
    with pytest.raises(DataError, match=r"cell.png: has 20 x 30 pixels .* is of a picture of 40 x 60"):
        annotation_of(dataset)


def coco_folder(root, annotations, images=({"id": 7, "file_name": "a.png"},)):
    picture(root / "images/a.png")
    categories = [{"id": 9, "name": "late"}, {"id": 3, "name": "early"}]
    content = {"images": list(images), "annotations": annotations, "categories": categories}
    (root / "annotations").mkdir()
    (root / "annotations/instances_train.json").write_text(json.dumps(content))
    return str(root)


def test_coco_boxes_become_edges_in_array_order(tmp_path):
    crowd = {"id": 2, "image_id": 7, "category_id": 3, "bbox": [0, 0, 9, 9], "iscrowd": 1}
    dataset = Coco(coco_folder(tmp_path, [{"id": 1, "image_id": 7, "category_id": 9, "bbox": [2, 3, 10, 4.5]}, crowd]))
    found = annotation_of(dataset)
    assert dataset.classes == {1: "early", 2: "late"}
    assert dataset.file_numbers == {1: 3, 2: 9}
    assert found.boxes.tolist() == [[3, 2, 7.5, 12], [0, 0, 9, 9]]
    assert found.box_classes.tolist() == [2, -1]


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        ({"id": 1, "image_id": 7, "category_id": 4, "bbox": [0, 0, 1, 1]}, "annotation 1 lacks a bbox"),
        ({"id": 1, "image_id": 7, "category_id": 3, "bbox": [0, 0, -1, 1]}, "annotation 1 has a negative size"),
    ],
)
def test_coco_mistakes_name_the_annotation(tmp_path, annotation, message):
    dataset = Coco(coco_folder(tmp_path, [annotation]))
    with pytest.raises(DataError, match=message):
        annotation_of(dataset)


@pytest.mark.parametrize("second", [{"id": 3, "name": "other"}, {"id": 4, "name": "early"}], ids=["id", "name"])
def test_coco_categories_that_cannot_be_told_apart_are_an_error(tmp_path, second):
    """Neither a repeated id nor a repeated name is resolved by position."""
    root = coco_folder(tmp_path, [])
    path = tmp_path / "annotations/instances_train.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"categories": [{"id": 3, "name": "early"}, second]}))
    with pytest.raises(DataError, match="two categories share an id or a name"):
        Coco(root)


def test_coco_annotations_of_an_unlisted_image_are_not_dropped(tmp_path):
    stray = {"id": 1, "image_id": 8, "category_id": 3, "bbox": [0, 0, 1, 1]}
    with pytest.raises(DataError, match="annotates image id 8"):
        Coco(coco_folder(tmp_path, [stray])).cases("train")


@pytest.mark.parametrize("flipped", [False, True])
def test_luna_nodules_find_their_voxels_whatever_the_axes(tmp_path, flipped):
    lung = np.zeros((20, 30, 40), np.int16)
    lung[9:12, 14:19, 24:29] = 100
    direction = (-1.0, 0, 0, 0, -1.0, 0, 0, 0, 1.0) if flipped else (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0)
    path = write(tmp_path / "subset0/1.2.3.mhd", lung, (0.8, 0.8, 2.0), direction, (-100.0, 50.0, -7.0))
    world = sitk.ReadImage(str(path)).TransformContinuousIndexToPhysicalPoint((26.0, 16.0, 10.0))
    row = ",".join(["1.2.3", *map(str, world), "6.0"])
    (tmp_path / "annotations.csv").write_text(f"seriesuid,coordX,coordY,coordZ,diameter_mm\n{row}\n")
    dataset = Luna16(str(tmp_path))
    (split,) = (s for s in ("train", "val") if dataset.cases(s))
    found = annotation_of(dataset, split)
    expected = [10.5 - 1.5, 16.5 - 3.75, 26.5 - 3.75, 10.5 + 1.5, 16.5 + 3.75, 26.5 + 3.75]
    np.testing.assert_allclose(found.boxes, [expected], atol=1e-4)


@pytest.mark.parametrize("style", ["nnU-Net", "Decathlon"])
def test_nnunet_and_decathlon_layouts(tmp_path, style):
    mask = np.zeros((4, 5, 6), np.uint8)
    mask[1], mask[2], mask[3] = 1, 5, 7
    write(tmp_path / "labelsTr/case.nii.gz", mask)
    write(tmp_path / f"imagesTr/case{'_0000' if style == 'nnU-Net' else ''}.nii.gz", mask.astype(np.int16))
    facts = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1, "tumour": 5, "ignore": 7}}
    if style == "Decathlon":
        facts = {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "liver", "5": "tumour", "7": "ignore"}}
    (tmp_path / "dataset.json").write_text(json.dumps(facts))
    dataset = NnUnet(str(tmp_path), val=0, test=0)
    found = annotation_of(dataset)
    assert dataset.classes == {1: "liver", 2: "tumour"}
    assert dataset.file_numbers == {1: 1, 2: 5}
    assert dataset.channels == ("ct",)
    assert found.mask[:, 0, 0].tolist() == [0, 1, 2, 255]


def test_nndetection_layout_numbers_objects_with_a_class_each(tmp_path):
    objects = np.zeros((4, 5, 6), np.int16)
    objects[1, :2], objects[1, 2:4], objects[3, 0, 0] = 1, 2, 300
    write(tmp_path / "labelsTr/case.nii.gz", objects)
    write(tmp_path / "imagesTr/case_0000.nii.gz", objects)
    write(tmp_path / "imagesTr/alone_0000.nii.gz", objects)
    facts = {"modalities": {"0": "CT"}, "labels": {"0": "nodule", "1": "cyst"}, "dim": 3}
    (tmp_path / "dataset.json").write_text(json.dumps(facts))
    sidecar = tmp_path / "labelsTr/case.json"
    sidecar.write_text(json.dumps({"instances": {"1": 0, "2": 0, "300": 1}}))
    dataset = NnUnet(str(tmp_path), val=0, test=0)
    alone, case = dataset.cases("train")
    found = read_case(case, 3)[1]
    assert dataset.classes == {1: "nodule", 2: "cyst"}
    assert dataset.file_numbers == {1: 0, 2: 1}
    assert found.boxes.tolist() == [[1, 0, 0, 2, 2, 6], [1, 2, 0, 2, 4, 6], [3, 0, 0, 4, 1, 1]]
    assert found.box_classes.tolist() == [1, 1, 2]
    with pytest.raises(DataError, match=r"labelsTr/alone.json: must state the class of every object"):
        read_case(alone, 3)
    sidecar.write_text(json.dumps({"instances": {"1": 0, "2": 0}}))
    with pytest.raises(DataError, match=r"case.nii.gz: object 300 has no class"):
        read_case(dataset.cases("train")[1], 3)


def test_nnunet_images_without_a_mask_are_not_dropped(tmp_path):
    write(tmp_path / "imagesTr/a.1_0000.nii.gz", np.zeros((4, 5, 6), np.int16))
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "liver": 1}}))
    with pytest.raises(DataError, match="labelsTr: does not exist"):
        NnUnet(str(tmp_path), val=0, test=0).cases("train")
    (tmp_path / "labelsTr").mkdir()
    (case,) = NnUnet(str(tmp_path), val=0, test=0).cases("train")
    with pytest.raises(DataError, match=r"labelsTr/a\.1\.nii\.gz: does not exist"):
        read_case(case, 3)


def image_folder(root, header, *rows):
    picture(root / "a.png", (20, 30))
    write(root / "m.png", np.eye(20, 30).astype(np.uint8) * 255)
    objects = np.zeros((20, 30), np.uint8)
    objects[2:6, 3:10], objects[6:9, 3:12] = 1, 2
    write(root / "i.png", objects)
    write(root / "i1.png", (objects == 1).astype(np.uint8))
    write(root / "i2.png", (objects == 2).astype(np.uint8))
    (root / "cases.csv").write_text("\n".join([header, *rows]) + "\n")
    return ImageFolder(str(root), classes=["cyst", "mass"], dims=2, val=0, test=0)


def test_image_folder_reads_every_rung(tmp_path):
    header = "image,patient,mask,region,label,boxes"
    boxes = '"[[""mass"", 1, 2, 3, 4]]"'
    rows = ["a.png,p,m.png,,,", "a.png,p,,m.png,,", "a.png,p,,,cyst;mass,", "a.png,p,,,none,", f"a.png,p,,,,{boxes}"]
    rows.append("a.png,p,,,,[]")
    dataset = image_folder(tmp_path, header, *rows)
    found = [read_case(case, 2)[1] for case in dataset.cases("train")]
    assert found[0].mask.sum() == 20
    assert found[1].region.sum() == 20
    assert found[2].label.tolist() == [1, 1]
    assert found[3].label.tolist() == [0, 0]
    assert (found[4].boxes.tolist(), found[4].box_classes.tolist()) == ([[1, 2, 3, 4]], [2])
    assert found[5].boxes.shape == (0, 4)
    assert found[0].label is None


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        ("picture", "a.png", "has no column 'image', only picture"),
        ("image,split", "a.png,tran", r"cases.csv:2: split 'tran' does not exist; did you mean 'train'"),
        ("image,label", "a.png,mas", r"cases.csv:2: undeclared class 'mas'; did you mean 'mass'"),
        ("image,boxes", "a.png,oops", r"cases.csv:2: boxes are not a JSON list"),
        ("image,boxes", 'a.png,"[[""mass"", 5, 2, 3, 4]]"', r"must be 4 numbers \[lo..., hi...\] with lo <= hi"),
        ("image,case", ",b", r"cases.csv:2: column 'image' is empty"),
        ("image,boxes", "a.png,[[1, 2]]", r"cases.csv:2: has more cells than the header line; put a cell that holds"),
        ("image,instances", "a.png,i.png", r"cases.csv:2: instance_classes is empty"),
        ("image,instances,instance_classes", "a.png,i.png,cyst", r"i.png: object 2 has no class"),
        ("image,instances,instance_classes", "a.png,i.png,cyst;mass;mass", r"i.png: object 3 has a class but no voxel"),
        ("image,instances_cyst,mask", "a.png,i.png,m.png", r"cases.csv:2: instances state mask and boxes already"),
    ],
)
def test_image_folder_mistakes_name_the_line(tmp_path, header, row, message):
    with pytest.raises(DataError, match=message):
        annotation_of(image_folder(tmp_path, header, row))


@pytest.mark.parametrize("separator", [",", ";", "\t"], ids=["comma", "semicolon", "tab"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_tables_of_any_spreadsheet_are_read(tmp_path, separator, encoding):
    dataset = image_folder(tmp_path, "image,mask,label", "a.png,m.png,cyst")
    table = tmp_path / "cases.csv"
    table.write_text(table.read_text().replace(",", separator), encoding=encoding)
    assert annotation_of(dataset).mask.sum() == 20
    absolute = str(tmp_path / "a.png")
    table.write_text(f"image{separator}label\n{absolute}{separator}mass\n", encoding=encoding)
    assert annotation_of(dataset).label.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("image,instances,instance_classes", "a.png,i.png,cyst;mass"),
        ("image,instances_cyst,instances_mass", "a.png,i1.png,i2.png"),
    ],
)
def test_objects_that_touch_stay_apart_in_an_instance_mask(tmp_path, header, row):
    dataset = image_folder(tmp_path, header, row)
    found = annotation_of(dataset)
    assert found.boxes.tolist() == [[2, 3, 6, 10], [6, 3, 9, 12]]
    assert found.box_classes.tolist() == [1, 2]
    assert [int((found.mask == k).sum()) for k in (1, 2)] == [4 * 7, 3 * 9]
    assert found.completed((20, 30), 2).label.tolist() == [1, 1]
    assert [int((found.instances == k).sum()) for k in found.box_instances] == [4 * 7, 3 * 9]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_names_with_accents_and_paths_of_windows(tmp_path, form):
    image_folder(tmp_path, "image,label", f"sub\\a.png,{unicodedata.normalize(form, chr(0xE4))}")
    picture(tmp_path / "sub/a.png", (20, 30))
    dataset = ImageFolder(str(tmp_path), classes=[unicodedata.normalize("NFC", chr(0xE4))], dims=2, val=0, test=0)
    assert annotation_of(dataset).label.tolist() == [1]


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_table_says_that_it_has_no_column(tmp_path, content):
    dataset = image_folder(tmp_path, "image", "a.png")
    (tmp_path / "cases.csv").write_text(content)
    with pytest.raises(DataError, match=r"cases.csv: has no column 'image'"):
        dataset.cases("train")


@pytest.mark.parametrize("box", [[50, 50, 60, 60], [5, 5, 5, 9], [-9, 2, 0, 8]])
def test_a_box_that_covers_nothing_of_its_image_is_not_dropped(tmp_path, box):
    cells = ",".join(map(str, box))
    dataset = image_folder(tmp_path, "image,boxes", f'a.png,"[[""mass"",{cells}]]"')
    with pytest.raises(DataError, match=r"a.png: box .* covers nothing of the image of \(20, 30\) voxels"):
        annotation_of(dataset)


@pytest.mark.parametrize(
    ("classes", "labels", "masks"),
    [
        (None, [[0, 1], [0, 0], [1, 0]], [2, 0, None]),
        ({1: "malignant", 2: "benign"}, [[1, 0], [0, 0], [0, 1]], [1, 0, None]),
        ({1: "lesion"}, [[1], [0], [1]], [1, 0, None]),
    ],
)
def test_busi_knows_a_label_for_all_and_a_mask_for_some(tmp_path, classes, labels, masks):
    rows = ["a,malignant,1,4,train", "b,normal,1,4,train", "c,benign,0,5,train"]
    (tmp_path / "cases.csv").write_text("\n".join(["case,class,has_mask,duplicate_cluster,split", *rows]))
    for name, lesion in (("a", 255), ("b", 0), ("c", 0)):
        picture(tmp_path / "images" / f"{name}.png", (20, 30))
        write(tmp_path / "masks" / f"{name}.png", np.full((20, 30), lesion, np.uint8))
    dataset = Busi(str(tmp_path), classes)
    found = [read_case(case, 2)[1] for case in dataset.cases("train")]
    assert [a.label.tolist() for a in found] == labels
    assert [None if a.mask is None else int(a.mask.max()) for a in found] == masks
    assert [c.patient for c in dataset.cases("train")] == ["cluster_4", "cluster_4", "cluster_5"]


def test_busi_has_no_other_classes(tmp_path):
    with pytest.raises(InputError, match="busi has no classes cyst, mass; take benign and malignant, or one for both"):
        Busi(str(tmp_path), {1: "cyst", 2: "mass"})


def test_sarcoma_channels_in_the_order_asked_and_no_test_patient_moved(tmp_path):
    names = [f"STS_{i:03d}" for i in range(40)]
    rows = [f"{name},{'test' if i < 8 else 'train'}," for i, name in enumerate(names)]
    (tmp_path / "cases.csv").write_text("\n".join(["case,split,tumour_ml", *rows]))
    dataset = StsPetct(str(tmp_path), channels=["pet", "ct"])
    assert [p.name for p in dataset.cases("test")[0].images] == ["STS_000_suv100.nii.gz", "STS_000_ct.nii.gz"]
    assert [c.id for c in dataset.cases("test")] == names[:8]
    assert {c.id for c in dataset.cases("train")} | {c.id for c in dataset.cases("val")} == set(names[8:])
    assert dataset.cases("val")


def test_one_colour_file_holds_several_named_channels(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (6, 7, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    (tmp_path / "cases.csv").write_text("case,image,label\na,a.png,object\n")
    colours = ImageFolder(str(tmp_path), channels=["red", "green", "blue"], dims=2, val=0, test=0)
    volume, _ = read_case(colours.cases("train")[0], 2)
    np.testing.assert_array_equal(volume.array, np.moveaxis(pixels, -1, 0))


@pytest.mark.parametrize(("column", "unit", "factor"), [("unit_pet", "SUV", 100), ("unit_pet", "SUV x 100", 1)])
def test_a_table_states_the_unit_of_a_file(tmp_path, column, unit, factor):
    np.save(tmp_path / "a.npy", np.full((3, 4, 5), 2.0, np.float32))
    (tmp_path / "cases.csv").write_text(f"case,image,label,{column}\na,a.npy,object,{unit}\n")
    data = Data(type="image_folder", root=str(tmp_path), channels=["pet"], units={"pet": "SUV x 100"}, val=0, test=0)
    volume, _ = read_case(open_dataset(data, 3).cases("train")[0], 3)
    assert volume.array.max() == 2 * factor


@pytest.mark.parametrize(
    ("unit", "message"), [("HU", "stated to be in HU, but SUV x 100 is needed"), ("SUW", "did you mean 'SUV'")]
)
def test_a_unit_in_a_table_that_makes_no_sense_is_refused(tmp_path, unit, message):
    np.save(tmp_path / "a.npy", np.ones((3, 4, 5), np.float32))
    (tmp_path / "cases.csv").write_text(f"case,image,label,unit_pet\na,a.npy,object,{unit}\n")
    data = Data(type="image_folder", root=str(tmp_path), channels=["pet"], units={"pet": "SUV x 100"}, val=0, test=0)
    with pytest.raises(DataError, match=message):
        read_case(open_dataset(data, 3).cases("train")[0], 3)
