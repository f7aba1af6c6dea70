"""Progress on a terminal, in a log file, in a notebook, and switched off."""

from __future__ import annotations

import io
import os
import sys

import pytest

from cphloc import progress as module
from cphloc.progress import QUIET, State, note, progress, quiet, track


class Clock:
    """A clock that is set by hand."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_log_file_gets_a_line_a_minute_with_step_loss_best_and_time_left(clock, capsys):
    with progress("training", 600, 100, "steps") as advance:
        for _ in range(500):
            clock.now += 1
            advance(1, loss=0.25, best="dice 0.8")
    lines = capsys.readouterr().err.splitlines()
    # 500 seconds: after 10 seconds, then every minute, and at the end. After 10 of 500 new steps 490 s are left.
    assert lines[0] == "training: 110/600 steps (18 %), loss 0.25, best dice 0.8, 8 min left"
    assert lines[1].startswith("training: 170/600 steps (28 %)")
    assert lines[-1] == "training: 600/600 steps (100 %), loss 0.25, best dice 0.8, took 8 min"
    assert len(lines) == 1 + 8 + 1


def test_under_a_budget_of_time_the_share_and_the_time_left_are_those_of_what_ends_first(clock):
    state = State("training", 3000, 0, "steps", budget=120)
    for seconds, done, line in (
        (30, 30, "25 %), 90 s left"),
        (110, 2900, "96 %), 4 s left"),
        (130, 2950, "100 %), 0 s"),
    ):
        clock.now, state.done = 1000 + seconds, done
        assert state.line().startswith(f"training: {done}/3000 steps ({line}")


def test_a_short_computation_writes_nothing_to_a_log_file_but_a_training_its_end(clock, capsys):
    assert list(track("abc", "reading")) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""
    with progress("training", 3, unit="steps", always_end=True) as advance:
        clock.now += 2
        advance(3)
    assert capsys.readouterr().err == "training: 3/3 steps (100 %), took 2 s\n"


def test_a_terminal_gets_one_display_for_nested_bars_which_vanishes(monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with progress("outer <[red]>", 2) as advance:
        advance(1, loss=0.5)
        for _ in track(["a"], "inner"):
            assert module.Bar._open == 2
    assert module.Bar._open == 0
    assert "outer <[red]>" in terminal.getvalue()
    assert "inner" in terminal.getvalue()


def test_quiet_shows_nothing_and_children_inherit_it(monkeypatch, clock, capsys):
    monkeypatch.setenv(QUIET, "0")
    note("heard")
    with quiet(), progress("training", 1, always_end=True) as advance:
        note("not heard")
        clock.now += 100
        advance()
        environment = os.environ[QUIET]
    note("heard again")
    assert environment == "1"
    assert capsys.readouterr().err == "heard\nheard again\n"


def test_only_the_first_of_several_processes_shows_progress(monkeypatch, capsys):
    monkeypatch.setenv("RANK", "1")
    note("fold 1")
    assert capsys.readouterr().err == ""


def test_the_end_of_an_interrupted_computation_states_how_far_it_came(clock, capsys):
    def interrupted():
        with progress("evaluating", 4, unit="cases") as advance:
            clock.now += 60
            advance()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert "evaluating: 1/4 cases (25 %), took 60 s" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("total", "done", "unit", "text"),
    [
        (None, 3, "cases", "reading: 3 cases"),
        (2_000_000, 500_000, "bytes", "reading: 0.5/2.0 MB (25 %)"),
        (0, 0, "cases", "reading: 0/0 cases"),
    ],
)
def test_counts_have_units(total, done, unit, text):
    assert State("reading", total, done, unit).line() == text


def test_a_name_from_a_file_stays_one_line(clock, capsys):
    for _ in track("a", "down\x1b[31mloading\nx"):
        clock.now += 60
    assert "\x1b" not in capsys.readouterr().err
