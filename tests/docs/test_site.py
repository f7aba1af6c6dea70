"""The site of the documentation: built without a warning, read without a network, and complete."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from cphloc import _PUBLIC
from cphloc.cli.commands import commands
from cphloc.registry import catalogue
from cphloc.registry.kinds import ALL

ROOT = Path(__file__).parent.parent.parent
GENERATE = ROOT / "docs" / "generate"
CHAPTERS = yaml.safe_load((GENERATE / "lecture.yaml").read_text())
SYSTEMS = [system for chapter in CHAPTERS for system in chapter["systems"]]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def test_every_system_of_the_lecture_has_a_formula_and_a_text():
    recipes = sorted(path.stem for path in (ROOT / "recipes" / "systems").glob("*.yaml"))
    assert sorted(system["recipe"] for system in SYSTEMS) == recipes
    assert all(system["formula"] and system["text"] for system in SYSTEMS)


def test_the_studies_of_a_system_exist():
    studies = {path.stem for path in (ROOT / "recipes" / "lecture").glob("*.yaml")}
    assert {study for system in SYSTEMS for study in system["studies"]} <= studies


def test_formulas_are_drawn_without_a_script():
    mathml = pytest.importorskip("latex2mathml.converter")
    for system in SYSTEMS:
        drawn = mathml.convert(system["formula"], display="block")
        assert drawn.startswith("<math")
        assert "\\" not in re.sub(r"<[^>]+>", "", drawn), system["recipe"]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built with warnings as errors in an own process and without the network."""
    pytest.importorskip("material")
    folder = tmp_path_factory.mktemp("site")
    environment = {**os.environ, "PYTHONPATH": f"{GENERATE}{os.pathsep}{ROOT}", "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.slow
def test_nothing_is_loaded_from_the_network(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        text = page.read_text()
        assert not re.findall(r'<(?:script|img|iframe)[^>]+src="(?:https?:)?//', text), page
        assert not re.findall(r'<link[^>]+rel="(?:stylesheet|preconnect)"[^>]+href="(?:https?:)?//', text), page


@pytest.mark.slow
def test_the_reference_has_every_public_name_command_and_component(site):
    python = (site / "reference" / "python.html").read_text()
    assert [name for name, module in _PUBLIC.items() if f'id="{module}.{name}"' not in python] == []
    shown = (site / "reference" / "commands.html").read_text()
    assert [name for name in commands() if f'id="cphloc-{name}"' not in shown] == []
    for kind in ALL:
        page = (site / "reference" / f"{kind}.html").read_text()
        assert [name for name in catalogue.cards(kind) if f'id="{name.lower()}"' not in page] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_executed_small_and_without_paths_of_a_machine(path):
    text = path.read_text()
    cells = json.loads(text)["cells"]
    assert len(text) < 400_000
    assert not re.search(r"/(?:home|root|tmp|work|Users)/", text)
    assert all(cell["execution_count"] for cell in cells if cell["cell_type"] == "code")
    assert not [o for c in cells for o in c.get("outputs", []) if o["output_type"] == "error"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_holds_the_cells_that_it_is_made_from(path):
    cells = yaml.safe_load((GENERATE / "notebooks.yaml").read_text())[path.stem]
    stored = ["".join(cell["source"]) for cell in json.loads(path.read_text())["cells"]]
    assert stored == [next(iter(cell.values())).strip() for cell in cells]


def test_there_are_three_notebooks():
    assert len(NOTEBOOKS) == len(yaml.safe_load((GENERATE / "notebooks.yaml").read_text())) == 3


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, at_work, monkeypatch):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    stored = nbformat.read(path, as_version=4)
    expected = [_kinds(cell) for cell in stored.cells]
    monkeypatch.setenv("CPHLOC_QUIET", "1")  # a bar appears only where a step takes long
    ran = nbclient.NotebookClient(stored, timeout=600, kernel_name="python3").execute()
    assert [_kinds(cell) for cell in ran.cells] == expected
    assert any(expected)


def _kinds(cell):
    """Kinds of the outputs of a cell without warnings; a stream may come in several parts."""
    return {output.output_type for output in cell.get("outputs", ()) if output.get("name") != "stderr"}
