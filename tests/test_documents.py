"""The documents at the top: what they name exists, and the walk of a change works as written."""

from __future__ import annotations

import ast
import re
import runpy
from pathlib import Path

import pytest
import yaml

import cphloc
from cphloc.cli import main

ROOT = Path(__file__).parent.parent
GITHUB = ROOT / ".github"
PROMISES = re.findall(r"`(tests/\S+\.py)::(test_\w+)`", (ROOT / "SECURITY.md").read_text())


def test_the_citation_names_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (citation["title"].split(":")[0], citation["version"]) == ("cphloc", cphloc.__version__)


@pytest.mark.parametrize(("file", "name"), PROMISES, ids=[name for _, name in PROMISES])
def test_a_promise_is_kept_by_a_test_that_exists(file, name):
    functions = [n.name for n in ast.parse((ROOT / file).read_text()).body if isinstance(n, ast.FunctionDef)]
    assert name in functions


def test_every_promise_names_a_test():
    table = [line for line in (ROOT / "SECURITY.md").read_text().splitlines() if line.startswith("| ")]
    heads = [line for line in table if line.startswith("| promise |")]
    assert len(PROMISES) == len(table) - len(heads) > 0


@pytest.mark.parametrize("template", sorted(GITHUB.glob("ISSUE_TEMPLATE/*.yml")), ids=lambda path: path.stem)
def test_a_template_has_what_a_form_needs(template):
    form = yaml.safe_load(template.read_text())
    assert {"name", "description", "body"} <= form.keys()
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert all(field["attributes"]["label"] for field in fields)
    assert len({field["id"] for field in fields}) == len(fields)


def test_the_neck_of_the_contributing_guide_works_as_written(tmp_path, monkeypatch, capsys):
    guide = (GITHUB / "CONTRIBUTING.md").read_text()
    # Only the module's place differs: a test adds nothing to the package.
    guide = guide.replace("cphloc/components/neck/lateral.py", "walked_neck.py")
    guide = guide.replace("cphloc.components.neck.lateral", "walked_neck")
    for name, text in re.findall(r"`([\w./]+)`:\n\n```\w+\n(.*?)```", guide, flags=re.DOTALL):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("CPHLOC_REGISTRY", str(tmp_path / "registry"))
    monkeypatch.chdir(tmp_path)
    assert main(["show", "lateral"]) == 0
    assert main(["check", "my.yaml"]) == 0
    assert "my.yaml: ok" in capsys.readouterr().out
    test = runpy.run_path("tests/components/neck/test_lateral.py")
    for dims in (2, 3):
        test["test_every_level_is_a_linear_map_of_its_channels"](dims)


def undocumented(path: Path) -> list[str]:
    """Public functions and classes without docstring, nested ones included; overloads share that of the last."""
    missing = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            overloaded = any(ast.unparse(d).endswith("overload") for d in node.decorator_list)
            if not overloaded and ast.get_docstring(node) is None:
                missing.append(f"{path.relative_to(ROOT)}:{node.lineno}: {node.name}")
    return missing


def test_every_public_function_and_class_has_a_docstring():
    assert [name for path in sorted((ROOT / "cphloc").rglob("*.py")) for name in undocumented(path)] == []


def test_the_environment_variables_of_the_documentation_are_those_that_the_code_reads():
    read = {
        name for path in (ROOT / "cphloc").rglob("*.py") for name in re.findall(r"CPHLOC_[A-Z_]+", path.read_text())
    }
    page = (ROOT / "docs" / "reference" / "environment.md").read_text(encoding="utf-8")
    assert read == set(re.findall(r"CPHLOC_[A-Z_]+", page))
