"""The explained columns of cases.csv are those that the data set reads."""

from __future__ import annotations

import pytest

from cphloc.cli import main
from cphloc.data.case_table import COLUMNS, explanation, header
from cphloc.data.datasets.image_folder import ImageFolder
from cphloc.errors import InputError


def test_a_template_is_a_table_without_cases(tmp_path, capsys):
    assert main(["data", "template", str(tmp_path / "own" / "cases.csv")]) == 0
    said = capsys.readouterr().out
    assert [name for name in COLUMNS if name not in said] == []
    assert ImageFolder(str(tmp_path / "own")).cases("train") == []
    assert main(["data", "template", str(tmp_path / "own" / "cases.csv")]) == 2
    assert "exists" in capsys.readouterr().err


def test_every_explained_column_is_read_and_no_other(tmp_path):
    names = [*COLUMNS, "x-note"]
    columns = [n.replace("<channel>", "image").replace("<class>", "object") for n in names if n != "image_<channel>"]
    (tmp_path / "cases.csv").write_text(",".join(columns) + "\na.nii.gz" + "," * (len(columns) - 1) + "\n")
    assert sum(len(ImageFolder(str(tmp_path)).cases(split)) for split in ("train", "val", "test")) == 1
    (tmp_path / "cases.csv").write_text(header().strip() + ",colour\n")
    with pytest.raises(InputError, match="colour"):
        ImageFolder(str(tmp_path)).cases("train")


def test_the_help_of_plan_keeps_the_lines_of_the_table(capsys):
    with pytest.raises(SystemExit):
        main(["plan", "--help"])
    assert explanation() in capsys.readouterr().out
