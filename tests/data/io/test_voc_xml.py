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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotations><image><box label='RBC'/></image></annotations>", "its root is <annotations>"),
        ("<dataset><images/></dataset>", "its root is <dataset>"),
        (f"<annotation xmlns='http://a.b'>{OBJECT.format('RBC', 1)}</annotation>", r"it has <\{http://a.b\}object>"),
        (
            "<annotation><Object><name>RBC</name></Object></annotation>",
            "it has <Object>, not <annotation>",
        ),
    ],
    ids=["CVAT", "dlib", "name space", "capital"],
)
def test_xml_in_another_layout_is_not_a_picture_without_objects(tmp_path, text, message):
    path = tmp_path / "a.xml"
    path.write_text(text)
    with pytest.raises(DataError, match=rf"a.xml: is not in the layout of VOC: {message}"):
        read_voc_boxes(path, {1: "RBC"})


@pytest.mark.parametrize(
    ("declared", "encoding"),
    [("GBK", "gbk"), ("Shift_JIS", "shift_jis"), ("UTF-16", "utf-16"), ("utf-8", "gb18030"), ("", "utf-8-sig")],
)
def test_a_name_is_read_in_the_encoding_that_the_file_declares(tmp_path, declared, encoding):
    path, name = tmp_path / "a.xml", "\u80bf\u7624" if encoding == "gbk" else "\u8840"
    head = f'<?xml version="1.0" encoding="{declared}"?>' if declared else ""
    path.write_bytes(f"{head}<annotation>{OBJECT.format(name, 1)}</annotation>".encode(encoding))
    if declared == "utf-8":  # another encoding than declared, which Windows-1252 would read as other letters
        with pytest.raises(DataError, match=r"a.xml: object 1 has the undeclared class"):
            read_voc_boxes(path, {1: name})
    else:
        assert read_voc_boxes(path, {1: name})[1] == (1,)
