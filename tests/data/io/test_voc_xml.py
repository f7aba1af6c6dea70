import pytest

from cphloc.data.io.voc_xml import read_voc_boxes
from cphloc.errors import DataError

OBJECT = "<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>2</ymin><xmax>5</xmax><ymax>7</ymax></bndbox></object>"


@pytest.mark.parametrize("xmin", ["left", "", "nan", "inf"])
def test_a_box_without_a_number_is_named(tmp_path, xmin):
    path = tmp_path / "a.xml"
    path.write_text(f"<annotation>{OBJECT.format('RBC', 1)}{OBJECT.format('RBC', xmin)}</annotation>")
    with pytest.raises(DataError, match=r"a\.xml: object 2"):
        read_voc_boxes(path, {1: "RBC"})


def test_pixels_counted_from_one_become_edges(tmp_path):
    path = tmp_path / "a.xml"
    path.write_text(f"<annotation>{OBJECT.format('WBC', 1)}{OBJECT.format('RBC', 5)}</annotation>")
    boxes, numbers = read_voc_boxes(path, {1: "RBC", 2: "WBC"})
    assert boxes == ((1, 0, 7, 5), (1, 4, 7, 5))  # the second is one pixel wide
    assert numbers == (2, 1)
    path.write_text(f"<annotation>{OBJECT.format('RBC', 1)}{OBJECT.format('RBC', 6)}</annotation>")
    with pytest.raises(DataError, match="object 2 has an inverted box 6,2 to 5,7"):
        read_voc_boxes(path, {1: "RBC"})
