"""``python -m tests.benchmarks.install``: what each extra costs in a fresh environment; writes docs/how-to/install.md.

Every extra is installed by uv in an environment of its own, from a wheel of this checkout, in the versions of
constraints.txt. Measured there: the size of the installed files without torch and what torch itself requires, and the
processor time of a new process that predicts, the first time and again. With ``--resolution lowest-direct`` the lower
bounds of pyproject.toml are installed, and nothing is written.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "how-to" / "install.md"
BEGIN, END = "<!-- table: python -m tests.benchmarks.install -->", "<!-- end of table -->"
EXTRAS = ("", "plot", "dicom", "hub", "train", "mlflow", "fast", "all")
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
    if options.resolution == "highest":
        PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), table(rows, options)), encoding="utf-8")


def measured(wheel: Path, extra: str, env: Path, options: argparse.Namespace) -> dict:
    """Install the wheel with an extra in a new environment and measure it; the environment is removed."""
    shutil.rmtree(env, ignore_errors=True)
    subprocess.run([options.uv, "venv", "--quiet", "--python", options.python, str(env)], check=True)
    python = env / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    wanted = f"cphloc[{extra}] @ {wheel.as_uri()}" if extra else f"cphloc @ {wheel.as_uri()}"
    versions = ["--resolution", options.resolution]
    if options.resolution == "highest":
        versions += ["--constraint", str(ROOT / "constraints.txt")]
    began = time.perf_counter()
    subprocess.run([options.uv, "pip", "install", "--quiet", "--python", str(python), *versions, wanted], check=True)
    row = {"extra": extra, "install_s": round(time.perf_counter() - began), **json.loads(_output(python, env, SIZES))}
    for name in ("first_s", "again_s"):  # bytecode is compiled by the first
        before = _processor_seconds()
        _output(python, env, PREDICTION)
        row[name] = round(_processor_seconds() - before, 1)
    shutil.rmtree(env)
    return row


def _processor_seconds() -> float:
    """Processor time of the processes that have ended; other processes of the machine change it little."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def table(rows: Sequence[dict], options: argparse.Namespace) -> str:
    """Format the measurements as a table with its explanation."""
    lines = [
        f"Measured on {datetime.now(UTC):%Y-%m-%d} with Python {options.python} on {platform.system()}, in versions "
        "of constraints.txt, each row in an environment of its own. Sizes are of unpacked files, cphloc and its zoo "
        f"included, without torch and what torch requires ({rows[0]['torch'] / 1e6:,.0f} MB with CUDA). Packages came "
        "from the cache of uv. The prediction is that of `unet3d-hippocampus` on its sample by a new process, imports "
        "included, in processor seconds; the first one compiles bytecode.",
        "",
        "| install | MB beside torch | packages | s to install | s to the first prediction | s again | largest, MB |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        name = f"`pip install 'cphloc[{row['extra']}]'`" if row["extra"] else "`pip install cphloc`"
        largest = ", ".join(f"{package} {size / 1e6:.0f}" for package, size in row["largest"].items())
        cells = [name, f"{row['beside'] / 1e6:,.0f}", row["packages"], row["install_s"]]
        lines.append(f"| {' | '.join(map(str, [*cells, row['first_s'], row['again_s'], largest]))} |")
    return "\n".join(lines)


def with_table(text: str, found: str) -> str:
    """Return the page with a table between its two marks."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{found}\n\n{END}{rest.partition(END)[2]}"


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
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
