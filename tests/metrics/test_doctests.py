"""Every example in the docstrings of cphloc.metrics runs, and every public function has one."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil

import pytest

import cphloc.metrics

MODULES = [f"cphloc.metrics.{module.name}" for module in pkgutil.iter_modules(cphloc.metrics.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str) -> None:
    outcome = doctest.testmod(importlib.import_module(name))
    assert outcome.attempted > 0
    assert outcome.failed == 0


@pytest.mark.parametrize("name", MODULES)
def test_every_public_function_has_an_example(name: str) -> None:
    module = importlib.import_module(name)
    functions = [f for _, f in inspect.getmembers(module, inspect.isfunction) if f.__module__ == name]
    without = [f.__name__ for f in functions if not f.__name__.startswith("_") and ">>>" not in (f.__doc__ or "")]
    assert without == []
