"""Tables that no spreadsheet evaluates."""

import csv
import math

import pytest

from cphloc.config.tables import cell, text_of, write_table

FORMULAS = ('=HYPERLINK("http://evil","x")', "@SUM(1)", "+1+cmd|' /C calc'!A0", "-2+3", "\t=1", "  =1", "＝1")


@pytest.mark.parametrize("text", FORMULAS)
def test_text_that_a_spreadsheet_would_evaluate_is_written_as_text_and_read_back(tmp_path, text: str):
    write_table(tmp_path / "t.csv", ["case", text], [{"case": text}])
    with (tmp_path / "t.csv").open(newline="") as file:
        head, row = csv.reader(file)
    assert head[1][0] == row[0][0] == "'"
    assert text_of(row[0]).strip() == text.strip()


@pytest.mark.parametrize("value", ["lung", "'quoted'", "-1.5", "+3e4", "", "a=b", "2-3", -1.5, 3, None, math.inf])
def test_other_values_stay_as_they_are(value: object):
    assert cell(value) == value
    assert not isinstance(value, str) or text_of(cell(value)) == value


def test_no_table_holds_a_control_sequence_or_a_password():
    assert cell("a\x1b]52;c;x\x07") == "a\\x1b]52;c;x\\x07"
    assert cell("https://bob:pw@host/x?sig=1") == "https://host/x"


def test_rows_may_be_mappings_or_sequences(tmp_path):
    write_table(tmp_path / "t.csv", ["a", "b"], [{"a": 1}, (2, 3)], newline="\n")
    assert (tmp_path / "t.csv").read_text() == "a,b\n1,\n2,3\n"
