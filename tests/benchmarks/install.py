"""``python -m tests.benchmarks.install``: what each extra costs in a fresh environment; writes ``INSTALL.md``.

Every extra is installed by uv in an environment of its own, from a wheel of this checkout. Measured there: the size of
the installed files without torch and what torch itself requires, and the time to the first prediction of a new process.
With ``--resolution lowest-direct`` the lower bounds of pyproject.toml are installed instead of the newest versions.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
EXTRAS = ("", "dicom", "hub", "train", "mlflow", "fast", "all")
"""Extras that are measured; the empty one is ``pip install cphloc``."""

SIZES = """
import json, re
from importlib.metadata import distribution, distributions
def own(dist):
    return sum(f.locate().stat().st_size for f in dist.files or () if f.locate().is_file())
def name_of(text):
    return re.sub(r"[-_.]+", "-", re.match(r"[\\w.-]+", text)[0]).lower()
installed = {name_of(d.metadata["Name"]): d for d in distributions()}
below, todo = set(), ["torch"]
while todo:
    name = todo.pop()
    if name in installed and name not in below:
        below.add(name)
        todo += [name_of(r) for r in installed[name].requires or () if "extra ==" not in r]
below |= {name for name in installed if name.startswith(("nvidia-", "cuda-"))}  # through extras of cuda-toolkit
sizes = {name: own(d) for name, d in installed.items()}
beside = {name: size for name, size in sizes.items() if name not in below}
print(json.dumps({"torch": sum(sizes[n] for n in below), "beside": sum(beside.values()), "packages": len(beside),
                  "largest": dict(sorted(beside.items(), key=lambda item: -item[1])[:6])}))
"""

PREDICTION = """
import cphloc
from cphloc.data.datasets.hippocampus import SAMPLE
result = cphloc.load("unet3d-hippocampus").predict(SAMPLE / "images" / "hippocampus_149.nii.gz")
assert result.masks.any()
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Install, measure and write."""
    options = _options(argv)
    with tempfile.TemporaryDirectory(prefix="cphloc-install-") as folder:
        wheel = _wheel(Path(folder))
        rows = []
        for extra in options.extras:
            rows.append(measured(wheel, extra, Path(folder) / "env", options))
            print(json.dumps(rows[-1]), flush=True)
    if options.out is not None:
        options.out.write_text(report(rows, options), encoding="utf-8")


def measured(wheel: Path, extra: str, env: Path, options: argparse.Namespace) -> dict:
    """Install the wheel with an extra in a new environment and measure it; the environment is removed."""
    shutil.rmtree(env, ignore_errors=True)
    subprocess.run([options.uv, "venv", "--quiet", "--python", options.python, str(env)], check=True)
    python = env / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    wanted = f"cphloc[{extra}] @ {wheel.as_uri()}" if extra else f"cphloc @ {wheel.as_uri()}"
    resolution = ["--resolution", options.resolution]
    subprocess.run([options.uv, "pip", "install", "--quiet", "--python", str(python), *resolution, wanted], check=True)
    sizes = json.loads(_output(python, env, SIZES))
    _output(python, env, PREDICTION)  # bytecode is compiled, kernels are kept
    began = time.perf_counter()
    _output(python, env, PREDICTION)
    row = {"extra": extra, **sizes, "first_prediction_s": round(time.perf_counter() - began, 1)}
    shutil.rmtree(env)
    return row


def report(rows: Sequence[dict], options: argparse.Namespace) -> str:
    """Format the measurements as a page."""
    lines = [
        "# What an installation costs",
        "",
        f"Written by `python -m tests.benchmarks.install` on {datetime.now(UTC):%Y-%m-%d}: Python {options.python}, "
        f"{platform.system()}, versions {options.resolution}. Each row is an environment of its own. Sizes are of "
        "unpacked files, without torch and what torch requires; the prediction is that of `unet3d-hippocampus` on its "
        "sample, by a new process, imports included, on a busy machine.",
        "",
        "| install | MB beside torch | packages | s to the first prediction | largest |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        name = f"`pip install 'cphloc[{row['extra']}]'`" if row["extra"] else "`pip install cphloc`"
        largest = ", ".join(f"{package} {size / 1e6:.0f}" for package, size in row["largest"].items())
        beside = f"{row['beside'] / 1e6:.0f}"
        lines.append(f"| {name} | {beside} | {row['packages']} | {row['first_prediction_s']:.1f} | {largest} |")
    return "\n".join([*lines, "", f"Torch with what it requires: {rows[0]['torch'] / 1e6:.0f} MB.", ""])


def _wheel(folder: Path) -> Path:
    """Build a wheel of this checkout."""
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def _output(python: Path, folder: Path, code: str) -> str:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "CPHLOC"))}
    done = subprocess.run([python, "-W", "ignore", "-c", code], capture_output=True, text=True, cwd=folder, env=own)
    if done.returncode:
        raise SystemExit(f"{done.stderr}\nfailed in the environment {folder}")
    return done.stdout


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("tests.benchmarks.install", description=__doc__)
    parser.add_argument("extras", nargs="*", default=EXTRAS, help="extras to measure; '' for none")
    parser.add_argument("--python", default="3.11", help="version of Python; default 3.11")
    parser.add_argument("--uv", default=str(Path(sys.executable).with_name("uv")), help="the program uv")
    parser.add_argument("--resolution", default="highest", choices=("highest", "lowest-direct"), help="versions")
    parser.add_argument("--out", type=Path, default=HERE / "INSTALL.md", help="page to write")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
