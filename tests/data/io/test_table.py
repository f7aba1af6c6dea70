"""Tables as spreadsheets and statistics programs write them; pandas reads the same cells."""

import csv
import io

import pandas
import pytest

from cphloc.data.io.table import number, read_table
from cphloc.data.io.text import decode
from cphloc.errors import DataError

CELLS = [["image", "label", "boxes"], ["a, b;c.nii", "Läsion; cyst", '[["mass", 1, 2]]'], ["d.nii", "", "it's 5|6"]]


def table(tmp_path, content, encoding="utf-8"):
    path = tmp_path / "t.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252", "utf-32"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"], ids=["unix", "windows", "mac"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_ALL, csv.QUOTE_MINIMAL])
def test_any_dialect_gives_the_cells_that_pandas_reads(tmp_path, delimiter, ending, encoding, quoting):
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, quoting=quoting, lineterminator=ending).writerows(CELLS)
    path = table(tmp_path, text.getvalue(), encoding)
    frame = pandas.read_csv(path, sep=delimiter, encoding=encoding, keep_default_na=False, dtype=str)
    found = read_table(path, ["image"], ["label", "boxes"])
    assert found == frame.to_dict("records") == [dict(zip(CELLS[0], row, strict=True)) for row in CELLS[1:]]
    assert [row.line for row in found] == [2, 3]


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ("image, mask\na.nii, m.nii\n", [("a.nii", "m.nii")]),
        ("'image','mask'\n'a,b.nii','m.nii'\n", [("a,b.nii", "m.nii")]),
        ("Image;MASK\na;b\n", [("a", "b")]),
        ("sep=;\nimage;mask\na;b\n", [("a", "b")]),
        ("image;mask;;\na;b;;\n", [("a", "b")]),
        ("image;mask\na;b\n;\n\n; ;\nc;d\n;;\n", [("a", "b"), ("c", "d")]),
        ('"","image","mask"\n"1","a","b"\n"2","c","d"\n"3","",""\n', [("a", "b"), ("c", "d")]),
        ("image,mask,x-note\na,b,c\n", [("a", "b")]),
        ("image,mask\na\n", [("a", "")]),
    ],
    ids=["spaces", "single quotes", "capitals", "sep", "trailing", "blank", "row numbers", "note", "short"],
)
def test_habits_of_spreadsheets(tmp_path, content, rows):
    found = read_table(table(tmp_path, content), ["image"], ["mask"])
    assert [(row["image"], row["mask"]) for row in found] == rows


def test_lines_are_those_of_the_file(tmp_path):
    path = table(tmp_path, 'image,label\n\na,"two\nlines"\n,\nb,c\n')
    assert [row.line for row in read_table(path, ["image"])] == [4, 6]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("image,masks\na,b\n", "nothing reads the column 'masks'; did you mean 'mask'"),
        (
            "image,age\na,70\n",
            "nothing reads the column 'age'; the columns are image, mask. To keep .* 'x-age'",
        ),
        ("picture\na\n", "has no column 'image', only picture"),
        ("image,mask,mask\na,b,c\n", "has the column 'mask' twice"),
        ("image,mask\na,b,c\n", ":2: has more cells than the header line"),
        ("image,,mask\na,b,c\n", ":2: 'b' is in a column without a name"),
        (b"PK\x03\x04\x14\x00\x06\x00", "is a workbook or archive; save it as text"),
        (b"\x89\x50\x81\x8d\x00\x01", "is not text"),
        ("", "has no column 'image', only an empty first line"),
        ('image,mask\n"a,b\nc,d\n', 'a quotation mark " is not closed, so the rows after it are lost'),
    ],
)
def test_mistakes_name_file_and_line(tmp_path, content, message):
    with pytest.raises(DataError, match=message) as error:
        read_table(table(tmp_path, content), ["image"], ["mask"])
    assert "t.csv" in str(error.value)


def test_decimal_comma():
    assert [number(text) for text in ("12,5", "-1.25", "3", "1e-3")] == [12.5, -1.25, 3, 1e-3]
    for text in ("1.234,5", "1,234,5", "", "a"):
        with pytest.raises(ValueError, match="could not convert"):
            number(text)


def test_utf_16_without_a_mark():
    assert decode("image;Läsion".encode("utf-16-le")) == "image;Läsion"
    assert decode("image;Läsion".encode("utf-16-be")) == "image;Läsion"
