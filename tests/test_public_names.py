"""The public names: importable, with types for editors, and each used in the file whose types are checked."""

import ast
from pathlib import Path

import pytest

import cphloc

STUB = Path(cphloc.__file__).with_name("__init__.pyi")
CALLS = Path(__file__).parent / "typing" / "public_calls.py"


def test_the_stub_imports_every_public_name_from_its_module():
    imports = [node for node in ast.parse(STUB.read_text()).body if isinstance(node, ast.ImportFrom)]
    names = {alias.name: node.module for node in imports for alias in node.names}
    exported = [alias.asname for node in imports for alias in node.names]
    assert names == cphloc._PUBLIC
    # A stub exports an imported name only as ``import name as name``.
    assert sorted(exported) == sorted(names)


def test_every_public_name_is_used_in_the_typed_examples():
    attributes = [n for n in ast.walk(ast.parse(CALLS.read_text())) if isinstance(n, ast.Attribute)]
    used = {n.attr for n in attributes if isinstance(n.value, ast.Name) and n.value.id == "cphloc"}
    assert used == set(cphloc.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'cphloc' has no attribute 'laod'"):
        cphloc.laod  # noqa: B018


def test_dir_lists_the_public_names():
    assert dir(cphloc) == sorted(cphloc.__all__)


def test_names_and_signatures_are_those_of_the_committed_list():
    """A change is meant: write the list again (``python -m tests.public_api``) and say so in CHANGELOG.md."""
    from public_api import FILE, text

    assert text() == FILE.read_text(encoding="utf-8")
