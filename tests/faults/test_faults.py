"""A sample of the faults of ``make faults``, and that it would notice a writer that is not safe."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.verbs import VERBS, torn_files

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "verbs", [["lock", "publish"], pytest.param(["train", "evaluate", "predict"], marks=pytest.mark.slow)], ids="-".join
)
def test_a_sample_of_faults_is_recovered(verbs):
    ended = _python("-m", "tests.faults", "--sample", "3", *verbs)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.count(": 3 faults, ") == len(verbs)


@pytest.mark.parametrize("kills", [1, pytest.param(8, marks=pytest.mark.slow)])
def test_an_evaluation_that_is_killed_at_any_moment_is_done_again_to_the_same_end(kills):
    ended = _python("-m", "tests.faults", "--kills", str(kills), "evaluate")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.count(f"of {kills} killed") == 1


@pytest.mark.parametrize(("kind", "code"), [("torn", -9), ("full", 28), ("", 0)])
def test_a_file_that_is_not_written_aside_is_torn(tmp_path, kind, code):
    script = f"""
import sys
from tests.faults.faulty_io import Faults, Point, install
faults = Faults({str(tmp_path)!r}, Point("write", "a.json", 1), {kind!r})
install(faults)
try:
    with open({str(tmp_path / "a.json")!r}, "w") as file:
        file.write('{{"a": 1}}')
except OSError as error:
    sys.exit(error.errno)
"""
    assert _python("-c", script).returncode == code
    assert (tmp_path / "a.json").read_text() == ('{"a": 1}' if not kind else '{"a"')
    assert torn_files(tmp_path) == (["a.json is torn"] if kind else [])


def test_nothing_that_was_tried_is_lost():
    table = (Path(__file__).parent / "TABLE.md").read_text().split("## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:2] == "| "]
    summary = {row[0]: (int(row[3]), int(row[4])) for row in rows[1:]}
    assert set(summary) <= {verb.name for verb in VERBS} | {"**all**"}
    assert all(tried == recovered > 0 for tried, recovered in summary.values())


def _python(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-W", "ignore", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True
    )
