"""Try a mutant: fork a process that has imported the heavy libraries, and run the tests on the changed module in it."""

from __future__ import annotations

import builtins
import contextlib
import gc
import importlib
import importlib.abc
import importlib.util
import json
import os
import resource
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from cosmic_ray.exceptions import CosmicRayTestingException

from .sample import ROOT, Mutant

WARM = (
    *("torch", "numpy", "scipy.ndimage", "scipy.stats", "scipy.spatial", "SimpleITK", "pydicom", "highdicom", "numba"),
    *("PIL.Image", "matplotlib.pyplot", "nibabel", "sklearn.metrics", "faster_coco_eval", "hypothesis", "pydantic"),
    *("albumentations", "timm", "monai", "monai.metrics", "monai.networks.nets", "lightning", "mlflow", "onnxruntime"),
    *("onnxscript", "openvino", "torch.onnx._internal.exporter._core"),
    "_hypothesis_pytestplugin",
)
ALSO = {  # test files of other folders that use a package
    "evaluation": ("tests/publishing/test_publish.py",),
    "structures": ("tests/data/test_case.py", "tests/data/io/test_read.py"),
    "data/io": ("tests/test_pitfalls.py",),
    "data/augment": ("tests/data/pipeline/test_pipeline.py", "tests/test_pitfalls.py"),
    "inference": ("tests/zoo/test_load.py",),
    "publishing": ("tests/zoo/test_entries.py",),
}
SLOW = {  # test files of over ten seconds, run only for the module whose name they bear
    *("test_ladder.py", "test_backend.py", "test_export.py", "test_registered.py", "test_mlflow_road.py"),
    "test_page_browser.py",
}
GIBIBYTE = 2**30


@dataclass(frozen=True)
class Outcome:
    """What the tests said of a mutant.

    Args:
        killed_by: The first test that failed, ``import``, ``time`` or ``crash``; ``None`` for a survivor.
        cpu_s: Seconds of processor time.
    """

    killed_by: str | None
    cpu_s: float


def warm_up() -> None:
    """Import what the tests import, without cphloc: forks start with it, and none has to wait for it."""
    os.environ.update(
        OMP_NUM_THREADS="1", MPLBACKEND="Agg", NO_ALBUMENTATIONS_UPDATE="1", PYTEST_DISABLE_PLUGIN_AUTOLOAD="1"
    )
    for name in WARM:
        importlib.import_module(name)
    if any(name == "cphloc" or name.startswith("cphloc.") for name in sys.modules):
        msg = "cphloc is imported already: mutants would not be seen"
        raise RuntimeError(msg)
    gc.collect()
    gc.freeze()  # a collection in a fork would copy the memory of all that is imported
    builtins.CosmicRayTestingException = CosmicRayTestingException  # the name that cosmic-ray writes into `except`


def tests_of(module: str) -> list[str]:
    """Test files of a module: its own, then those of its package that name it, then the rest of its package."""
    package = str(Path(module).parent.relative_to("cphloc"))
    folders = [f"tests/{package}", *ALSO.get(package, ())]
    files = [file for folder in folders for file in sorted((ROOT / folder).glob("test_*.py")) or [ROOT / folder]]
    own, name = f"test_{Path(module).name}", module.removesuffix(".py").replace("/", ".")
    files = [file for file in files if file.name == own or file.name not in SLOW]
    ranked = sorted(files, key=lambda file: (file.name != own, name not in file.read_text()))
    return [str(file.relative_to(ROOT)) for file in ranked]


def trial(mutant: Mutant, tests: list[str], cpu_limit_s: int, suspect: str | None = None) -> Outcome:
    """Run the tests on the changed module.

    Args:
        mutant: The change.
        tests: Test files, the likeliest to fail first.
        cpu_limit_s: Seconds of processor time after which the mutant counts as killed.
        suspect: Test that killed the mutant in an earlier run; if it fails again, no other is run.
    """
    spent_s = 0.0
    known = [[suspect]] if suspect and "::" in suspect else []
    for some in [*known, tests[:1], tests[1:]]:
        outcome = run(mutant, some, cpu_limit_s)
        spent_s += outcome.cpu_s
        if outcome.killed_by and (outcome.killed_by != "import" or some != [suspect]):  # the suspect may be gone
            break
    return Outcome(outcome.killed_by, spent_s)


def run(mutant: Mutant | None, tests: list[str], cpu_limit_s: int = 3600) -> Outcome:
    """Run all the tests, until the first fails, on the changed module or (``None``) on the code as it is."""
    with tempfile.TemporaryDirectory(prefix="mutant-", ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch)
        child = os.fork()
        if child == 0:
            _run_and_exit(mutant, tests, cpu_limit_s, folder)
        status, cpu_s = _wait(child, 4 * cpu_limit_s)
        if status is None or (os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL)):
            return Outcome("time", cpu_s)
        if not (folder / "said").exists():
            return Outcome("crash", cpu_s)
        said = json.loads((folder / "said").read_text())
        return Outcome(said["failed"] or {0: None, 5: None}.get(said["status"], "import"), cpu_s)


def _run_and_exit(mutant: Mutant | None, tests: list[str], cpu_limit_s: int, folder: Path) -> None:
    os.setsid()
    os.chdir(folder)
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_limit_s, cpu_limit_s + 5))
    resource.setrlimit(resource.RLIMIT_AS, (32 * GIBIBYTE, 32 * GIBIBYTE))
    output = os.open(folder / "output", os.O_CREAT | os.O_WRONLY)
    os.dup2(output, 1)
    os.dup2(output, 2)
    try:
        if mutant:
            _install(mutant, folder)
        first = _FirstFailure()
        options = ["-q", "-x", "-m", "not slow", "--hypothesis-seed=0", f"--basetemp={folder / 'temporary'}"]
        options += [
            "-p",
            "no:cacheprovider",
            "-p",
            "_hypothesis_pytestplugin",
            f"--rootdir={ROOT}",
            f"-c={ROOT / 'pyproject.toml'}",
        ]
        status = int(pytest.main([*options, *(str(ROOT / test) for test in tests)], plugins=[first]))
        (folder / "said").write_text(json.dumps({"status": status, "failed": first.name}))
    finally:
        os._exit(0)


class _FirstFailure:
    name: str | None = None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not self.name:
            self.name = report.nodeid


def _install(mutant: Mutant, folder: Path) -> None:
    """Let the import system find the changed source in place of the module's, and numba compile it anew."""
    dotted = mutant.module.removesuffix(".py").replace("/", ".")
    source = mutant.source.encode()

    class Changed(importlib.abc.MetaPathFinder, importlib.abc.SourceLoader):
        def find_spec(self, name: str, path: object = None, target: object = None):
            if name != dotted:
                return None
            return importlib.util.spec_from_file_location(name, ROOT / mutant.module, loader=self)

        def get_filename(self, name: str) -> str:
            return str(ROOT / mutant.module)

        def get_data(self, path: str) -> bytes:
            if not path.endswith(".py"):
                raise OSError(path)
            return source

    sys.meta_path.insert(0, Changed())
    if b"@compiled" in source:
        sys.modules["numba"].config.CACHE_DIR = str(folder / "numba")


def _wait(child: int, limit_s: float) -> tuple[int | None, float]:
    """Wait for the child and end its group; ``None`` for one that ran past the limit."""
    start = time.monotonic()
    done, status, usage = os.wait4(child, os.WNOHANG)
    while not done and time.monotonic() - start < limit_s:
        time.sleep(0.05)
        done, status, usage = os.wait4(child, os.WNOHANG)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if not done:
        _, _, usage = os.wait4(child, 0)
    return (status if done else None), usage.ru_utime + usage.ru_stime
