"""Jobs in a child process: what they return and raise comes back; one that kills its process costs that job only."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from cphloc.distributed.child import in_child
from cphloc.distributed.cluster import over_jobs
from cphloc.errors import InputError, MissingExtraError, Problem, RecipeError


def lost(job, reason):
    return f"{job} lost: {reason}"


def kill_on_two(job):
    if job == 2:
        os.kill(os.getpid(), signal.SIGSEGV)
    return job * 10, os.getpid()


def test_a_crash_costs_one_job_and_the_others_share_a_process():
    first, second, third, fourth = in_child(kill_on_two, [1, 2, 3, 4], lost)
    assert (first[0], second, third[0], fourth[0]) == (10, "2 lost: SIGSEGV", 30, 40)
    assert third[1] == fourth[1] != first[1] != os.getpid()


def leave(job):
    os._exit(7)


def test_the_reason_of_a_process_that_left_is_its_exit_code():
    assert list(over_jobs(leave, ["a"], lost=lost)) == [(0, "a lost: exit code 7")]


def where(job):
    return os.getcwd(), os.environ.get("CPHLOC_CACHE")


def test_a_child_has_the_folder_and_environment_of_its_parent(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CPHLOC_CACHE", "elsewhere")
    assert list(in_child(where, [0], lost)) == [(str(tmp_path), "elsewhere")]


ERRORS = [
    InputError("wrong"),
    MissingExtraError("the engine 'ray'", "ray"),
    RecipeError([Problem("r.yaml:1:2", "train.steps", "is negative", "write 10")]),
]


def fail(job):
    raise ERRORS[job]


@pytest.mark.parametrize("number", range(len(ERRORS)))
def test_an_error_arrives_as_it_was_raised(number):
    with pytest.raises(type(ERRORS[number])) as caught:
        list(in_child(fail, [number], lost))
    assert str(caught.value) == str(ERRORS[number])
    assert vars(caught.value) == vars(ERRORS[number])


def test_no_file_of_the_working_folder_is_imported_by_a_child_of_the_command_line(tmp_path):
    (tmp_path / "here").mkdir()
    for module in ("copy", "selectors", "random"):
        (tmp_path / "here" / f"{module}.py").write_text("print('a file of the working folder was run', flush=True)")
    script = tmp_path / "cphloc"  # as the console script, whose folder Python searches instead
    script.write_text(
        "import sys; sys.argv[1:] = ['list', 'necks']\n"
        "from cphloc.cli import main; main()\n"
        "from cphloc.distributed.child import in_child\n"
        "print(list(in_child(abs, [-3], lambda job, reason: reason, ['cphloc.progress'])))\n"
    )
    done = subprocess.run([sys.executable, script], cwd=tmp_path / "here", capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1:] == ["[3]"], done.stderr
    assert "was run" not in done.stdout + done.stderr


def test_a_script_without_a_guard_is_not_run_again(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "print('started')\n"
        "from cphloc.distributed.child import in_child\n"
        "print(list(in_child(abs, [-3], lambda job, reason: reason)))\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["started", "[3]"]
