"""Former names: they warn for one minor version, and then they go."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from packaging.version import Version

import cphloc
from cphloc.renamed import gone_with, renamed

PACKAGE = Path(cphloc.__file__).parent


class Counter:
    def outputs(self, x):
        """Count."""
        return x + 1

    @renamed("outputs", since="0.1.0")
    def raws(self, x):
        """Count, under the former name."""
        return self.outputs(x)


def test_a_former_name_works_and_warns_where_it_is_called():
    expected = r"Counter\.raws is named outputs since cphloc 0\.1\.0.*goes with 0\.2\.0"
    with pytest.warns(FutureWarning, match=expected) as found:
        assert Counter().raws(1) == 2
    assert found[0].filename == __file__
    assert Counter.raws.__doc__ == "Count, under the former name."


def test_no_former_name_is_kept_longer_than_one_minor_version():
    found = []
    for file in PACKAGE.rglob("*.py"):
        decorators = [n for n in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(n, ast.Call)]
        named = [call for call in decorators if isinstance(call.func, ast.Name) and call.func.id == "renamed"]
        found += [(file.name, k.value.value) for call in named for k in call.keywords if k.arg == "since"]
    assert ("model.py", "0.1.0") in found
    due = [one for one in found if Version(cphloc.__version__) >= Version(gone_with(one[1]))]
    assert not due, "remove these former names"
