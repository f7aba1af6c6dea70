"""What leaves the machine: nothing by itself."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time

import pytest
from file_server import Handler, drip, serving

from cphloc.errors import CphlocError, InputError

HOOK = """
import sys
def hook(event, arguments):
    if event in ("socket.getaddrinfo", "socket.connect", "socket.gethostbyname") and not isinstance(arguments[-1], str):
        open({log!r}, "a").write(f"{{event}} {{arguments}}\\n")
sys.addaudithook(hook)
"""


CALLS = "connect,sendto,sendmsg,sendmmsg"
"""Calls of the system that reach another machine."""


def tracer() -> str:
    """The program strace, which also sees what is not written in Python. Skips the test without it, but not in CI."""
    found = shutil.which("strace")
    if found is None:
        what = "strace is not installed, so nobody watched the connections: apt-get install strace"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(what)
    return found


@pytest.fixture
def watched(tmp_path):
    """Run code in a process whose look-ups and connections, and those of its children, are returned with its output."""

    def run(code: str, *arguments: str, **environment: str) -> tuple[list[str], str, set[str]]:
        log, home = tmp_path / "connections", tmp_path / "home"
        home.mkdir(exist_ok=True)
        (tmp_path / "sitecustomize.py").write_text(HOOK.format(log=str(log)))
        own = {"HOME": str(home), "XDG_CACHE_HOME": str(tmp_path / "cache"), "HF_HOME": str(tmp_path / "hf")}
        path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("ORT_", "HF_", "DO_NOT", "NO_ALB", "MLFLOW"))}
        command = [sys.executable, "-c", code, *arguments]
        traced = tmp_path / "trace"
        command = [tracer(), "-f", "--seccomp-bpf", "-o", str(traced), "-e", f"trace={CALLS}", *command]
        done = subprocess.run(
            command, env={**kept, **own, "PYTHONPATH": path, **environment}, capture_output=True, text=True, check=False
        )
        seen = log.read_text().splitlines() if log.exists() else []
        seen += [line for line in traced.read_text().splitlines() if "sa_family=" in line and "AF_UNIX" not in line]
        files = {str(p.relative_to(home)) for p in home.rglob("*") if p.is_file()}
        return seen, done.stdout + done.stderr, files

    return run


def test_runtimes_report_nothing_and_leave_no_file(watched):
    """Both report to their makers by default: openvino through a process of its own, onnxruntime from C++."""
    code = """
import time, torch, cphloc
from cphloc.inference import runtimes
from cphloc.modeling.model import Model
recipe = {"task": "segmentation", "dims": 2, "data": {"type": "phantom", "patch": [32, 32]},
          "model": {"backbone": {"type": "conv_encoder", "widths": [4, 8]},
                    "heads": {"mask": {"type": "unet", "classes": {1: "a"}, "loss": {"type": "dice_ce"}}}}}
model = cphloc.build({"task": "segmentation", "dims": 2, "data": {"type": "image_folder", "channels": ["ct"],
    "classes": ["a"]}, "model": recipe["model"]}).eval()
window = torch.zeros(1, 1, 32, 32)
with torch.no_grad():
    expected = model.outputs(window)
for name in ("onnxruntime", "openvino"):
    print(name, sorted(runtimes.OPEN[name](model, window, expected)(window)))
time.sleep(3)
"""
    seen, said, files = watched(code)
    assert "onnxruntime [" in said, said
    assert "openvino [" in said, said
    assert seen == []
    assert files == set()


OFFLINE = {
    "timm from the hub": "from cphloc.components.backbone.timm import Timm\nTimm(3, 2, 'resnet18', pretrained=True)",
    "timm from an address": "from cphloc.components.backbone.timm import Timm\nTimm(3, 2, 'dpn68', pretrained=True)",
    "a zoo": "from cphloc.zoo.entries import list_entries\nprint(list_entries(zoos=['https://example.org/zoo']))",
    "an entry": "import cphloc\ncphloc.load('https://example.org/zoo/a/1.0.0')",
    "weights": "import cphloc.download as d, pathlib\nd.download(['https://a.org'], pathlib.Path('x'), 'x')",
    "data": "from cphloc.data.fetch import fetch\nfetch('bccd')",
    "tracking": "from cphloc.tracking.zoo_register import open_register\nwith open_register():\n    pass",
    "a registered model": "import cphloc\ncphloc.load('models:/a/1')",
}


@pytest.mark.parametrize("code", OFFLINE.values(), ids=OFFLINE)
def test_offline_opens_no_socket_and_says_so_in_one_line(watched, code):
    child = f"import subprocess, sys, cphloc\nsys.exit(subprocess.call([sys.executable, '-c', {code!r}]))"
    environment = {"CPHLOC_OFFLINE": "1", "MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "CPHLOC_DATA": "nowhere"}
    seen, said, _ = watched(child, **environment)
    assert seen == []
    assert "CPHLOC_OFFLINE" in said.strip().splitlines()[-1] or said.strip() == "[]" or "no zoo has" in said


ROAD = """
import os, sys
from pathlib import Path
from cphloc.cli import main
os.chdir(sys.argv[1])
Path("tiny.yaml").write_text(
    "extends: demo\\ndescription: Two steps\\nmodel: {backbone: {type: conv_encoder, widths: [4, 8]}}\\n"
    "train: {steps: 2, validate_every: 2, warmup_steps: 1, ema: null}\\n"
)
from cphloc.data.datasets.hippocampus import SAMPLE
scan = str(SAMPLE / "images" / "hippocampus_149.nii.gz")
why = ["--below-baseline", "two steps of training"]
for command in (
    ["train", "tiny.yaml"],
    ["evaluate", "latest"],
    ["publish", "latest", "--name", "tiny", "--version", "0.1.0", "--to", "zoo", *why],
    ["predict", "./zoo/tiny/0.1.0", scan, "--out", "out"],
):
    print(command[0], "gives", main(command), flush=True)
print(*sorted(path.name for path in Path("out").rglob("*.nii.gz")))
"""


@pytest.mark.slow
def test_offline_a_whole_project_opens_no_socket(watched, tmp_path):
    """Training with its workers, evaluation, publication with its processes, and prediction."""
    (tmp_path / "work").mkdir()
    seen, said, files = watched(ROAD, str(tmp_path / "work"), CPHLOC_OFFLINE="1", CPHLOC_CACHE=str(tmp_path / "cache"))
    assert [line for line in said.splitlines() if " gives " in line] == [
        f"{command} gives 0" for command in ("train", "evaluate", "publish", "predict")
    ], said
    assert "hippocampus_149_mask.nii.gz" in said
    assert seen == []
    assert files == set()


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """Let the hub be this address, with empty caches."""
    from cphloc.download import limits

    monkeypatch.delenv("CPHLOC_OFFLINE", raising=False)
    monkeypatch.setenv("CPHLOC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *a, **k: None)
    monkeypatch.setattr(limits, "GRACE_SECONDS", 1.0)
    return lambda address: monkeypatch.setenv("HF_ENDPOINT", address)


def silence(handler: Handler) -> None:
    """Accept the connection and send nothing."""
    time.sleep(12)


@pytest.mark.parametrize(
    ("answer", "message"), [(None, "cannot be reached"), (silence, "did not answer within 8 s"), (drip, "too slow")]
)
def test_weights_of_a_hub_that_does_not_answer_fail_in_one_line_within_ten_seconds(hub, answer, message):
    from cphloc.components.backbone import timm

    with contextlib.nullcontext("127.0.0.1:9") if answer is None else serving(answer) as address:
        hub(f"http://{address}")
        started = time.monotonic()
        with pytest.raises(InputError, match=rf"resnet18.* {message}.*give weights: a file") as caught:
            timm.Timm(3, 2, "resnet18", pretrained=True)
        assert time.monotonic() - started < 10
    assert "\n" not in str(caught.value)


def test_weights_of_a_hub_come_once_and_damaged_ones_are_one_line(hub, tmp_path):
    import torch
    from safetensors.torch import save

    from cphloc.components.backbone import timm

    state = timm.Timm(3, 2, "resnet10t").body.state_dict()
    name, asked = "resnet10t", []
    weights = {key: torch.full_like(value, 0.5) for key, value in state.items()}
    weights |= {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}

    def answer(handler: Handler) -> None:
        asked.append((handler.command, handler.path))
        content = save(weights) if len(asked) < 3 else b"damaged"
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        if handler.command == "GET":
            handler.wfile.write(content)

    with serving(answer) as address:
        hub(f"http://{address}")
        for _ in range(2):
            made = timm.Timm(3, 2, name, pretrained=True).body.state_dict()
            assert all((value == 0.5).all() for value in made.values() if value.is_floating_point())
        assert [command for command, _ in asked] == ["HEAD", "GET"]
        assert asked[1][1].endswith("/resolve/main/model.safetensors")
        kept = next((tmp_path / "cache").rglob("model.safetensors"))
        kept.write_bytes(b"damaged")
        with pytest.raises(InputError, match=r"resnet10t.*damaged.*remove .*model\.safetensors"):
            timm.Timm(3, 2, name, pretrained=True)


def test_no_password_of_a_tracking_server_is_kept(monkeypatch, tmp_path, caplog):
    from cphloc.tracking import tracker

    monkeypatch.delenv("CPHLOC_OFFLINE", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://bob:Hunter2pw@127.0.0.1:9/?token=Hunter2pw")
    log = tracker.Tracker(tmp_path, "cphloc/a", "a-run")
    log.params({"from": "https://bob:Hunter2pw@host/zoo/a/1.0.0"})
    log.metrics({"a": 1.0}, 1)
    with pytest.raises(CphlocError) as caught:
        tracker.push(tmp_path)
    with pytest.raises(CphlocError) as other:
        tracker.push(tmp_path, "http://bob:Hunter2pw@127.0.0.1:10")
    kept = [p.name for p in tmp_path.rglob("*") if p.is_file() and b"Hunter2pw" in p.read_bytes()]
    assert kept == []
    assert "Hunter2pw" not in f"{caught.value} {other.value} {caplog.text}"


def test_a_push_finds_the_password_where_it_was_given(monkeypatch, tmp_path):
    from cphloc.tracking.server import with_secrets

    uri = f"sqlite:///{tmp_path}/mlflow.db?secret=Hunter2pw"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert with_secrets(f"sqlite:///{tmp_path}/mlflow.db", None) == uri
    assert with_secrets("http://host/x", "http://a:b@host/x") == "http://a:b@host/x"
    assert with_secrets("http://other", None) == "http://other"


def test_a_recipe_with_a_password_is_refused_before_a_run_keeps_it():
    from cphloc.errors import RecipeError
    from cphloc.recipe.recipe import load

    with pytest.raises(RecipeError, match="an address with a password") as caught:
        load("unet3d-hippocampus", {"from": "https://bob:Hunter2pw@host/zoo/a/1.0.0"})
    assert "Hunter2pw" not in str(caught.value)


def test_importing_cphloc_only_adds_variables_that_are_not_set():
    code = "import cphloc, os; print(os.environ['DO_NOT_TRACK'], os.environ['ORT_DISABLE_TELEMETRY'])"
    environment = {**os.environ, "DO_NOT_TRACK": "0"} | dict.fromkeys((), "")
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "1"]
