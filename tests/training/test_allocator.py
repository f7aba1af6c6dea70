import os
import sys

import pytest

from cphloc.training import allocator


@pytest.fixture
def started(monkeypatch):
    """What is started anew, as the cphloc program on a CPU where tcmalloc is installed."""
    done = []
    monkeypatch.delenv(allocator.VARIABLE, raising=False)
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/cphloc", "train", "demo"])
    monkeypatch.setattr(sys, "orig_argv", ["python", *sys.argv])
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(allocator, "_has_gpu", lambda: False)
    monkeypatch.setattr(
        allocator.ctypes.util, "find_library", lambda name: f"lib{name}.so.4" if name[0] == "t" else None
    )
    monkeypatch.setattr(allocator.Path, "read_text", lambda *_, **__: "libc.so.6")
    monkeypatch.setattr(os, "execve", lambda program, argv, env: done.append((argv, env)))
    return done


def test_training_is_started_again_with_a_better_allocator(started):
    allocator.choose()
    ((argv, environment),) = started
    assert argv == [sys.executable, "/somewhere/bin/cphloc", "train", "demo"]
    assert environment["LD_PRELOAD"] == "libtcmalloc_minimal.so.4"
    assert environment[allocator.VARIABLE] == "preloaded", "and not a second time"


@pytest.mark.parametrize("value", ["system", "preloaded"])
def test_not_where_the_variable_says_so(started, monkeypatch, value):
    monkeypatch.setenv(allocator.VARIABLE, value)
    allocator.choose()
    assert started == []


def test_not_on_a_gpu_nor_in_a_script_nor_where_one_is_in_use(started, monkeypatch):
    with monkeypatch.context() as there:
        there.setattr(allocator, "_has_gpu", lambda: True)
        allocator.choose()
    with monkeypatch.context() as there:
        there.setattr(sys, "argv", ["experiment.py", "train"])
        allocator.choose()
    with monkeypatch.context() as there:
        there.setattr(allocator.Path, "read_text", lambda *_, **__: "/usr/lib/libjemalloc.so.2")
        allocator.choose()
    assert started == []


def test_what_was_preloaded_before_stays(started, monkeypatch):
    monkeypatch.setenv("LD_PRELOAD", "libfirst.so")
    allocator.choose()
    assert started[0][1]["LD_PRELOAD"] == "libfirst.so libtcmalloc_minimal.so.4"
