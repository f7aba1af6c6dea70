"""The pages of the documentation do what they say: their commands, recipes and snippets run as written."""

from __future__ import annotations

import shlex
from pathlib import Path

import documentation as pages
import pytest
import yaml

from cphloc.cli.main import parser

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted(p for p in (ROOT / "docs").rglob("*.md") if "plugin-example" not in p.parts)
RUN = [p for p in PAGES if any(b.language in ("bash", "python") for b in pages.blocks(p.read_text()))]
NOT_RUN = {"pip", "uv", "git", "make", "cd", "source", "python3", "mlflow"}
"""What ``sh`` blocks may hold besides cphloc: installation, and servers, which do not end."""


def name(path: Path) -> str:
    return str(path.relative_to(ROOT / "docs").with_suffix(""))


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(p, id=name(p), marks=[pytest.mark.slow] * bool(pages.stated(p.read_text()).get("slow")))
        for p in RUN
    ],
)
def test_a_page_runs_as_written(path, at_work, monkeypatch):
    monkeypatch.delenv("CPHLOC_ZOO", raising=False)
    assert pages.run(path, monkeypatch) > 0


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_what_is_not_run_is_an_installation_or_a_command_that_exists(path):
    lines = [line for b in pages.blocks(path.read_text()) if b.language == "sh" for line in b.text.splitlines()]
    for words in filter(None, (shlex.split(line, comments=True) for line in lines)):
        if words[0] == "cphloc":
            parser(only=words[1]).parse_args(words[1:])
        else:
            assert words[0] in NOT_RUN


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_every_block_has_a_language_and_yaml_can_be_read(path):
    text = path.read_text()
    assert text.count("```") % 2 == 0
    for block in pages.blocks(text):
        assert block.language in ("bash", "sh", "python", "yaml", "csv", "text", "math")
        if block.language == "yaml":
            assert yaml.safe_load(block.text)
