"""The commands of the page on own weights are run, with small models in place of the sources that it names."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from foreign_networks import detector, network

import cphloc
from cphloc.cli import main
from cphloc.importing.nnunet_folder import extract

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "how-to" / "own-weights.md"
COMMANDS = dict(re.findall(r"^cphloc import (\w+) (.+)$", PAGE.read_text(encoding="utf-8"), flags=re.M))


def _results(source):
    extract(HERE / "nnunet" / "regions" / "model.zip", Path("made"))
    shutil.copytree(next(Path("made").rglob("plans.json")).parent, source)


def _bundle(source):
    shutil.copytree(HERE / "monai" / "dynunet", source)


def _pretrained(source):
    network(classes=1).save_pretrained(source)


def _cells(source):
    torch.save(detector(source).state_dict(), "cells.pth")


SOURCES = {"nnunet": _results, "monai": _bundle, "smp": _pretrained, "torchvision": _cells}


@pytest.mark.parametrize(
    "framework", [pytest.param(name, marks=pytest.mark.slow if name == "torchvision" else ()) for name in SOURCES]
)
def test_a_command_of_the_page_imports(tmp_path, monkeypatch, framework):
    monkeypatch.chdir(tmp_path)
    words = shlex.split(COMMANDS[framework])
    SOURCES[framework](words[0])
    assert words.pop() == "--prove"  # by an environment with the framework, as in `make import-proof`
    assert main(["import", framework, *words, "--to", "zoo"]) == 0
    name = words[words.index("--name") + 1]
    assert cphloc.load(f"zoo/{name}/1.0.0/").entry.imported.licence == words[words.index("--licence") + 1]


def test_every_framework_has_a_command_on_the_page():
    assert set(COMMANDS) == set(SOURCES)
