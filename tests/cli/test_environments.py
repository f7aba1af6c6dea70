"""Commands without docstrings (``python -OO``) and on terminals whose encoding is not UTF-8."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cphloc.cli import main

RECIPE = """
task: segmentation
dims: 2
description: Größe – µm
data: {type: phantom, size: [32, 32], cases: {train: 2, val: 1, test: 1}, patch: [32, 32]}
model:
  backbone: {type: conv_encoder, widths: [4, 8]}
  heads: {mask: {type: unet, classes: {1: mass}, loss: {type: dice_ce}}}
train: {steps: 1, batch: 2, optimizer: {type: AdamW, lr: 1e-3}}
"""

SCRIPT = """
import contextlib, io, json, sys
from cphloc.cli import main

answers = []
for line in json.loads(sys.argv[1]):
    try:
        answers.append(main(line))
    except SystemExit as end:
        answers.append(end.code)
    print("<end>", flush=True)
print(json.dumps(answers))
"""

ALWAYS = (["list"], ["show", "unet"], ["show", "unet3d-hippocampus"], ["schema"], ["explain", "r.yaml"])
"""Commands whose answer does not depend on the environment."""


@pytest.fixture
def answers(tmp_path, monkeypatch, mlflow_store):
    """Run commands in one process of another environment; gives their exit codes and what each printed."""
    monkeypatch.chdir(tmp_path)
    Path("r.yaml").write_text(RECIPE, encoding="utf-8")
    Image.fromarray(np.zeros((32, 32), np.uint8)).save("größe.png")
    unset = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHONUTF8"))}
    unset |= {"MLFLOW_TRACKING_URI": mlflow_store, "PYTHONWARNINGS": "default"}

    def run(commands: list[list[str]], *python: str, **env: str) -> tuple[list[int], list[str], str]:
        command = [sys.executable, *python, "-c", SCRIPT, json.dumps(commands)]
        done = subprocess.run(command, env={**unset, **env}, capture_output=True, timeout=300)
        encoding = env["PYTHONIOENCODING"]
        *printed, codes = done.stdout.decode(encoding).split("<end>\n")
        return json.loads(codes), printed, done.stderr.decode(encoding)

    return run


@pytest.fixture(scope="module")
def usual(tmp_path_factory):
    """What the commands of `ALWAYS` print here."""
    printed = []
    with contextlib.chdir(tmp_path_factory.mktemp("usual")):
        Path("r.yaml").write_text(RECIPE, encoding="utf-8")
        for command in ALWAYS:
            with contextlib.redirect_stdout(io.StringIO()) as text:
                main(command)
            printed.append(text.getvalue())
    return printed


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_terminal_without_utf8_shows_what_it_can_and_escapes_the_rest(answers, usual, encoding):
    wrong = [["check", "größe.yaml"], ["show", "größe"], ["predict", "--help"]]
    codes, printed, errors = answers([*ALWAYS, *wrong], LC_ALL="C", PYTHONIOENCODING=encoding)
    assert codes == [0] * len(ALWAYS) + [2, 2, 0]
    assert "Traceback" not in errors
    assert "UnicodeEncodeError" not in errors
    assert "größe".encode(encoding, "backslashreplace").decode(encoding) in errors
    assert printed[: len(ALWAYS)] == [text.encode(encoding, "backslashreplace").decode(encoding) for text in usual]


def test_commands_without_docstrings_answer_as_usual(answers, usual):
    codes, printed, errors = answers([*ALWAYS, ["check", "r.yaml"]], "-OO", PYTHONIOENCODING="utf-8")
    assert codes == [0] * (len(ALWAYS) + 1), errors
    assert "Traceback" not in errors
    assert printed[: len(ALWAYS)] == usual


@pytest.mark.slow
def test_training_and_prediction_without_docstrings(answers):
    """Slow, because Python compiles every package anew without docstrings."""
    train = [["train", "r.yaml"], ["predict", "latest", "größe.png", "--out", "out"]]
    codes, _, errors = answers(train, "-OO", PYTHONIOENCODING="utf-8")
    assert codes == [0, 0], errors
    assert "Traceback" not in errors
    assert "NoneType" not in errors
    assert Path("out/größe_result.json").is_file()
