"""A small crowd; `make crowd` runs one of 20 processes, on PostgreSQL too."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_four_processes_lose_no_version_and_no_run():
    command = [sys.executable, "-W", "ignore", "-m", "tests.crowd", "--dry", "--processes", "4", "sqlite"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_processes_that_open_a_new_database_at_once_make_its_tables_once(tmp_path):
    code = (
        "import multiprocessing, os, sys; import mlflow.store.tracking.sqlalchemy_store, mlflow.tracking\n"
        "from cphloc.tracking.server import client_of, experiment_id\n"
        "def member(gate):\n"
        "    gate.wait(60)\n"
        "    print('experiment', experiment_id(client_of(sys.argv[1]), sys.argv[1], 'one'), flush=True)\n"
        "    os._exit(0)\n"
        "context = multiprocessing.get_context('fork'); gate = context.Barrier(5)\n"
        "members = [context.Process(target=member, args=(gate,)) for _ in range(5)]\n"
        "[m.start() for m in members]; [m.join() for m in members]\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, f"sqlite:///{tmp_path}/mlflow.db"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    said = [line for line in done.stdout.splitlines() if line.startswith("experiment")]
    assert len(said) == 5, done.stderr
    assert len(set(said)) == 1
    assert not list(tmp_path.glob("*-lock"))
