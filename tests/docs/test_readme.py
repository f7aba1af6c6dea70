"""The README: its tour runs, its table of entries is the present one, and its picture is small."""

from __future__ import annotations

import re
import runpy
import shutil
import sys
from pathlib import Path

import documentation
import pytest

from cphloc.cli import main
from cphloc.data.datasets.hippocampus import SAMPLE

ROOT = Path(__file__).parent.parent.parent
README = ROOT / "README.md"
GENERATE = ROOT / "docs" / "generate"
QUICK = {
    "train": "--set train.steps=2 --set train.validate_every=2 --set data.patch=[16,16,16] --set data.workers=0 "
    "--set model.backbone.widths=[4,8]"
}


def test_the_tour_runs_as_written(at_work, monkeypatch):
    shutil.copy(SAMPLE / "images" / "hippocampus_149.nii.gz", "scan.nii.gz")
    assert documentation.run(README, monkeypatch, QUICK) >= 6
    assert (at_work / "out" / "scan_mask.nii.gz").exists()


@pytest.mark.parametrize("page", [README, ROOT / "docs" / "recipe-language.md"], ids=lambda page: page.stem)
def test_the_mistake_is_reported_as_shown(page, at_work, capsys):
    (recipe,) = (b.text for b in documentation.blocks(page.read_text()) if b.file == "my.yaml")
    Path("my.yaml").write_text(recipe.replace("classes: {1: ant", "clases: {1: ant"))
    assert main(["check", "my.yaml"]) == 2
    (shown,) = re.findall(r"^my\.yaml:.*$", page.read_text(), flags=re.M)
    assert shown in capsys.readouterr().out


@pytest.fixture
def readme(monkeypatch):
    """What `docs/generate/readme.py` defines."""
    monkeypatch.syspath_prepend(GENERATE)
    yield runpy.run_path(str(GENERATE / "readme.py"))
    for module in ("entry_pages", "markdown_text"):
        sys.modules.pop(module, None)


def test_the_table_of_entries_is_up_to_date(readme):
    text = README.read_text()
    assert readme["with_entries"](text) == text, "run: python docs/generate/readme.py"
    assert text.count("| [") >= 11


def test_the_picture_is_small_and_every_link_leads_somewhere():
    text = README.read_text()
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    assert "docs/pictures/results.png" in links
    assert [link for link in links if not (ROOT / link).exists()] == []
    assert (ROOT / "docs/pictures/results.png").stat().st_size < 300_000
