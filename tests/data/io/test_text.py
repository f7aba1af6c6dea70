from __future__ import annotations

import pytest

from cphloc.data.io.text import read_text
from cphloc.errors import DataError


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "latin-1"])
def test_text_is_read_in_its_encoding(tmp_path, encoding):
    (tmp_path / "names.csv").write_bytes("L\u00e4sion \u00f8".encode(encoding))
    assert read_text(tmp_path / "names.csv") == "L\u00e4sion \u00f8"


def test_what_cannot_be_read_as_text_is_one_clear_error(tmp_path):
    with pytest.raises(DataError, match=r"missing\.csv: cannot be read \(No such file or directory\)"):
        read_text(tmp_path / "missing.csv")
    for content, what in ((b"PK\0\x01", "a workbook or archive"), (b"a\0\xffb", "not text")):
        (tmp_path / "names.csv").write_bytes(content)
        with pytest.raises(DataError, match=f"is {what}; save it as text"):
            read_text(tmp_path / "names.csv")
