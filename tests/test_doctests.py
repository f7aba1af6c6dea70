"""Every example in a docstring runs and gives what it says."""

import doctest
import importlib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "cphloc"


def modules_with_examples():
    files = sorted(p for p in PACKAGE.rglob("*.py") if "_data" not in p.parts and ">>>" in p.read_text())
    names = (".".join(("cphloc", *p.relative_to(PACKAGE).with_suffix("").parts)) for p in files)
    return [name.removesuffix(".__init__") for name in names]


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert outcome.attempted > 0
    assert outcome.failed == 0
