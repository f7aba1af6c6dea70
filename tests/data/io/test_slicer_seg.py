"""Segmentations of 3D Slicer, written by pynrrd with the header that Slicer writes."""

import nrrd
import numpy as np
import pytest

from cphloc.data.case import AnnotationSource, Case, read_case
from cphloc.data.datasets.image_folder import ImageFolder
from cphloc.errors import DataError

SHAPE = (20, 18, 16)
BLOCKS = {"cyst": np.s_[2:6, 2:6, 2:6], "tumour": np.s_[4:11, 4:11, 4:11], "läsion/links [1]": np.s_[14:16, 1:3, 1:2]}


def block(name, shape=SHAPE):
    mask = np.zeros(shape, np.uint8)
    mask[BLOCKS[name]] = 1
    return mask


def header(layers=1, origin=(5.0, -3.0, 7.0), space="left-posterior-superior"):
    steps = np.diag([1.0, 1.5, 2.0])
    if layers == 1:
        return {"space": space, "space directions": steps, "space origin": np.array(origin)}
    directions = np.vstack([np.full(3, np.nan), steps])
    kinds = ["list", "domain", "domain", "domain"]
    return {"space": space, "space directions": directions, "space origin": np.array(origin), "kinds": kinds}


def write(tmp_path, array, segments, name="m.seg.nrrd", **options):
    """An image and a segmentation; ``segments`` are (name, layer, value)."""
    nrrd.write(str(tmp_path / "image.nrrd"), np.zeros(SHAPE, np.int16), header())
    head = header(array.ndim - 2, **options)
    for number, (_, layer, value) in enumerate(segments):
        facts = {"ID": f"Segment_{number + 1}", "Name": f"NAME{number}", "Layer": layer, "LabelValue": value}
        head |= {f"Segment{number}_{key}": str(text) for key, text in facts.items() if text is not None}
    path = tmp_path / name
    nrrd.write(str(path), array, head)
    content = path.read_bytes()
    for number, (label, *_) in enumerate(segments):  # pynrrd writes ASCII only, Slicer UTF-8
        content = content.replace(f"NAME{number}".encode(), label.encode())
    path.write_bytes(content)
    return path


def read(path, rois):
    source = AnnotationSource(mask=path, rois=rois, known=(True,) * max(rois.values()))
    return read_case(Case("a", "a", (path.parent / "image.nrrd",), source))[1]


@pytest.mark.parametrize("name", ["m.seg.nrrd", "renamed.nrrd"])
@pytest.mark.parametrize("values", [(1, 2), (2, 1), (7, 3)])
def test_the_header_says_which_value_is_which_segment(tmp_path, name, values):
    array = values[1] * block("tumour")
    array[block("cyst") > 0] = values[0]
    path = write(tmp_path, array, [("cyst", 0, values[0]), ("tumour", 0, values[1])], name)
    found = read(path, {"tumour": 1, "cyst": 2})
    np.testing.assert_array_equal(found.mask.T, np.where(block("cyst"), 2, block("tumour")))


def test_segments_that_overlap_lie_in_layers(tmp_path):
    array = np.stack([block("cyst"), block("tumour")])
    path = write(tmp_path, array, [("cyst", 0, 1), ("tumour", 1, 1)])
    assert read(path, {"tumour": 1}).mask.sum() == 7**3
    assert read(path, {"cyst": 1}).mask.sum() == 4**3
    both = read(path, {"tumour": 1, "cyst": 2}).mask
    assert [int((both == k).sum()) for k in (1, 2)] == [7**3 - 2**3, 4**3]


def test_files_of_slicer_4_10_have_a_layer_for_each_segment(tmp_path):
    array = np.stack([block("cyst"), block("tumour")])
    path = write(tmp_path, array, [("cyst", None, None), ("tumour", None, None)])
    assert read(path, {"tumour": 1}).mask.sum() == 7**3


@pytest.mark.parametrize("label", BLOCKS)
def test_a_segmentation_saved_as_a_crop_lies_where_it_was_drawn(tmp_path, label):
    whole = block(label)
    path = write(tmp_path, whole[2:17, 1:12, 1:12], [(label, 0, 1)], origin=(7.0, -1.5, 9.0))
    np.testing.assert_array_equal(read(path, {label: 1}).mask.T, whole)


def test_a_segmentation_in_ras_is_turned(tmp_path):
    """Slicer writes LPS; other programs write the same grid in RAS."""
    path = write(tmp_path, block("cyst"), [("cyst", 0, 1)])
    steps = np.diag([-1.0, -1.5, 2.0])
    head = {"space": "right-anterior-superior", "space directions": steps, "space origin": np.array([-5.0, 3.0, 7.0])}
    facts = {"Segment0_Name": "cyst", "Segment0_LabelValue": "1", "Segment0_Layer": "0"}
    nrrd.write(str(path), block("cyst"), head | facts)
    np.testing.assert_array_equal(read(path, {"cyst": 1}).mask.T, block("cyst"))


def test_a_segment_that_nobody_drew_is_unknown(tmp_path):
    path = write(tmp_path, block("cyst"), [("cyst", 0, 1), ("tumour", 0, 2)])
    done = read(path, {"tumour": 1, "cyst": 2}).completed(SHAPE[::-1], 2)
    np.testing.assert_equal(done.label.tolist(), [np.nan, 1])
    assert done.mask_known.tolist() == [False, True]


def test_a_value_that_no_segment_has_is_refused(tmp_path):
    """slicerio#10: a segment that was drawn anew has another value than the header states."""
    path = write(tmp_path, np.stack([block("cyst"), 5 * block("tumour")]), [("cyst", 0, 1), ("tumour", 1, 1)])
    with pytest.raises(DataError, match=r"m.seg.nrrd: no segment has the value 5 of layer 1"):
        read(path, {"cyst": 1})


def test_a_table_reads_segments_by_the_names_of_its_classes(tmp_path):
    write(tmp_path, block("cyst"), [("cyst", 0, 1)])
    (tmp_path / "cases.csv").write_text("image,mask,split\nimage.nrrd,m.seg.nrrd,train\n")
    (case,) = ImageFolder(str(tmp_path), classes=["tumour", "cyst"]).cases("train")
    assert np.unique(read_case(case, 3)[1].mask).tolist() == [0, 2]
    (case,) = ImageFolder(str(tmp_path), classes=["tumor", "cist"]).cases("train")
    with pytest.raises(DataError, match=r"m.seg.nrrd: has no region named tumor, cist, only cyst; correct `rois`"):
        read_case(case, 3)


@pytest.mark.parametrize(
    ("segments", "message"),
    [
        ([("cyst", 0, 1), ("cyst", 0, 2)], "has two segments named 'cyst'"),
        ([("cyst", 3, 1)], "segment 'cyst' is in layer 3 but the file has 1"),
        ([("cyst", 0, "one")], "segment 'cyst' has a layer or label value that is no number"),
    ],
)
def test_a_header_that_contradicts_itself_is_refused(tmp_path, segments, message):
    with pytest.raises(DataError, match=f"m.seg.nrrd: {message}"):
        read(write(tmp_path, block("cyst"), segments), {"cyst": 1})
